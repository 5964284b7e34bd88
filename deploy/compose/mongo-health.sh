#!/bin/sh
# Healthy is a primary that takes writes. The first calls make the replica set, and the users of the
# processes: the web tier reads messages, and mongo_writer alone writes them.
# The shell takes the passwords from its environment, because command lines are public.
exec mongosh --quiet --eval '
    const {MONGO_INITDB_ROOT_USERNAME: user, MONGO_INITDB_ROOT_PASSWORD: pwd} = process.env;
    const {MONGO_WEB_PASSWORD, MONGO_WRITER_PASSWORD} = process.env;
    db.getSiblingDB("admin").auth({user, pwd});
    try { rs.status() } catch (error) {
        if (error.codeName !== "NotYetInitialized") throw error;
        rs.initiate({_id: "chatbus", members: [{_id: 0, host: "mongo:27017"}]});
    }
    if (!db.hello().isWritablePrimary) quit(1);
    const chat = db.getSiblingDB("chat");
    const make = (user, pwd, role) => {
        if (!chat.getUser(user)) chat.createUser({user, pwd, roles: [role]});
    };
    make("web", MONGO_WEB_PASSWORD, "read");
    make("mongo_writer", MONGO_WRITER_PASSWORD, "readWrite");'
