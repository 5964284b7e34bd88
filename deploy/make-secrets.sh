#!/bin/bash
# Makes the passwords and keys of docker-compose.yml in deploy/secrets/, once; git ignores it.
# Each process has a user of its own on each server that it needs, with the rights that it needs,
# and an env file with the URLs of these. What a user may do on RabbitMQ is in
# deploy/compose/rabbitmq-permissions.json, on MongoDB in mongo-health.sh, on MySQL in mysql-web.sh.
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

lines() { printf '%s\n' "$@"; }
random() { random_bytes 32; }
random_bytes() { head -c "$1" /dev/urandom | od -An -tx1 | tr -d ' \n'; }
# The bytes that hexadecimal digits stand for.
bytes() { printf '%b' "$(sed 's/../\\x&/g' <<<"$1")"; }
# What RabbitMQ keeps of a password: salt, and SHA-256 of salt and password
# (https://www.rabbitmq.com/docs/passwords).
hashed() {
    local salt digest
    salt=$(random_bytes 4)
    digest=$({ bytes "$salt" && printf '%s' "$1"; } | sha256sum | cut -c 1-64)
    bytes "$salt$digest" | base64 -w 0
}

# broker USER [TAG]: a line of users, and BROKER_URL
broker_users=()
broker() {
    local password
    password=$(random)
    broker_users+=("{\"name\": \"$1\", \"tags\": [${2:+\"$2\"}], \"password_hash\": \"$(hashed "$password")\"}")
    broker_url="BROKER_URL=amqp://$1:$password@rabbitmq:5672/%2F"
}
# redis USER PATTERN…: a line of users, who may use these keys and channels, and REDIS_URL
redis_users=()
redis() {
    local password
    password=$(random)
    redis_users+=("user $1 on >$password ${*:2} +@all -@admin -@dangerous +info")
    redis_url="REDIS_URL=redis://$1:$password@redis:6379/0"
}

mongo=$(random) mongo_web=$(random) mongo_writer=$(random) mysql=$(random) mysql_web=$(random)
mongo_url() { echo "MONGO_URL=mongodb://$1:$2@mongo:27017/chat?replicaSet=chatbus"; }
database_url() { echo "DATABASE_URL=mysql://$1:$2@mysql:3306/chatbus"; }
secret_key="SECRET_KEY=$(random)"
ticket_keys="TICKET_KEYS=k1:$(random)"
rooms=('~{room:*' '~room_log:*' '&{room:*')
sessions=('~{sessions}*' '&{sessions}*')

# The commands of operators, and what declares the topology.
broker operator management
lines "$broker_url" >topology.env

# The API shows the bindings to whoever has the tag `management`.
broker web management
redis web "${rooms[@]}" "${sessions[@]}" '~web:*'
app=("$redis_url" "$(mongo_url web "$mongo_web")" "$secret_key" "$ticket_keys")
lines "$broker_url" "${app[@]}" "$(database_url web "$mysql_web")" >web.env
# Alone it changes tables.
lines "$broker_url" "${app[@]}" "$(database_url chatbus "$mysql")" >migrate.env
broker request_worker management
lines "$broker_url" "${app[@]}" "$(database_url web "$mysql_web")" >request_worker.env

broker mongo_writer
lines "$broker_url" "$(mongo_url mongo_writer "$mongo_writer")" >mongo_writer.env
broker redis_publisher
redis redis_publisher "${rooms[@]}"
lines "$broker_url" "$redis_url" >redis_publisher.env
redis bridge "${rooms[@]}" "${sessions[@]}" '~ticket:*' '&bridge:*'
lines "$redis_url" "$ticket_keys" >bridge.env
broker gateway
lines "$broker_url" >gateway.env

lines "MONGO_INITDB_ROOT_USERNAME=root" "MONGO_INITDB_ROOT_PASSWORD=$mongo" \
    "MONGO_WEB_PASSWORD=$mongo_web" "MONGO_WRITER_PASSWORD=$mongo_writer" >mongo.env
{
    echo '{"users": ['
    (IFS=$'\n' && sed '$!s/$/,/' <<<"${broker_users[*]}")
    echo ']}'
} >rabbitmq-users.json
lines "dir /data" "appendonly yes" "appendfsync everysec" "maxmemory-policy noeviction" \
    "user default off" "${redis_users[@]}" >redis.conf
printf '%s' "$mysql" >mysql_password
printf '%s' "$mysql_web" >mysql_web_password
random >mongo.key

# File secrets are mounted as they are: the servers run as other users, who must read theirs;
# mongod refuses a key file that anybody else can read.
chmod 0444 redis.conf mysql_password mysql_web_password rabbitmq-users.json
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
