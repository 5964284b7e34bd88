#!/bin/sh
# Healthy is a primary that takes writes; the first call makes the replica set.
exec mongosh --quiet --username "$MONGO_INITDB_ROOT_USERNAME" \
    --password "$MONGO_INITDB_ROOT_PASSWORD" --eval '
    try { rs.status() } catch (error) {
        if (error.codeName !== "NotYetInitialized") throw error;
        rs.initiate({_id: "chatbus", members: [{_id: 0, host: "mongo:27017"}]});
    }
    quit(db.hello().isWritablePrimary ? 0 : 1);'
