#!/bin/sh
# Healthy is a primary that takes writes; the first call makes the replica set.
# The shell takes the password from its environment, because command lines are public.
exec mongosh --quiet --eval '
    const {MONGO_INITDB_ROOT_USERNAME: user, MONGO_INITDB_ROOT_PASSWORD: pwd} = process.env;
    db.getSiblingDB("admin").auth({user, pwd});
    try { rs.status() } catch (error) {
        if (error.codeName !== "NotYetInitialized") throw error;
        rs.initiate({_id: "chatbus", members: [{_id: 0, host: "mongo:27017"}]});
    }
    quit(db.hello().isWritablePrimary ? 0 : 1);'
