#!/bin/bash
# Makes the passwords and keys of docker-compose.yml in deploy/secrets/, once; git ignores it.
# Each process gets an env file of its own, with the URLs that it needs and no others.
set -euo pipefail
umask 077

folder="$(dirname "$0")/secrets"
if [ -e "$folder" ]; then
    echo "$folder exists; remove it (and the volumes that were made with it) to make new secrets." >&2
    exit 1
fi
mkdir "$folder.new"
trap 'rm -rf "$folder.new"' EXIT
cd "$folder.new"

random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

rabbitmq=$(random) redis=$(random) mongo=$(random) mysql=$(random)
secret_key="SECRET_KEY=$(random)"
ticket_keys="TICKET_KEYS=k1:$(random)"
broker_url="BROKER_URL=amqp://chatbus:$rabbitmq@rabbitmq:5672/%2F"
redis_url="REDIS_URL=redis://:$redis@redis:6379/0"
mongo_url="MONGO_URL=mongodb://chatbus:$mongo@mongo:27017/chat?authSource=admin&replicaSet=chatbus"
database_url="DATABASE_URL=mysql://chatbus:$mysql@mysql:3306/chatbus"

lines() { printf '%s\n' "$@"; }

lines "$broker_url" "$redis_url" "$mongo_url" "$database_url" "$secret_key" "$ticket_keys" >web.env
lines "$broker_url" "$mongo_url" >mongo_writer.env
lines "$broker_url" "$redis_url" >redis_publisher.env
lines "$redis_url" "$ticket_keys" >bridge.env
lines "$broker_url" >gateway.env
lines "RABBITMQ_DEFAULT_USER=chatbus" "RABBITMQ_DEFAULT_PASS=$rabbitmq" >rabbitmq.env
lines "MONGO_INITDB_ROOT_USERNAME=chatbus" "MONGO_INITDB_ROOT_PASSWORD=$mongo" >mongo.env
lines "requirepass $redis" "dir /data" "appendonly yes" "appendfsync everysec" \
    "maxmemory-policy noeviction" >redis.conf
printf '%s' "$mysql" >mysql_password
random >mongo.key

# File secrets are mounted as they are: the servers run as other users, who must read theirs;
# mongod refuses a key file that anybody else can read.
chmod 0444 redis.conf mysql_password
if [ "$(id -u)" = 0 ]; then
    chown 999:999 mongo.key
else
    echo "Let mongod (user 999 in its container) own its key: sudo chown 999:999 $folder/mongo.key"
fi
chmod 0400 mongo.key
cd - >/dev/null
mv "$folder.new" "$folder"
trap - EXIT
echo "Made $folder."
