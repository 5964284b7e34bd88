# MySQL's image reads this once, when it makes the data folder. The web tier reads and writes rows;
# `chatbus migrate` alone, as the user chatbus, changes tables.
docker_process_sql <<SQL
CREATE USER 'web'@'%' IDENTIFIED BY '$(cat /run/secrets/mysql_web_password)';
GRANT SELECT, INSERT, UPDATE, DELETE ON chatbus.* TO 'web'@'%';
SQL
