# The database machine by hand: server, five databases, accounts. Reachable from outside only when all is loaded.
# Environment: SELF (address), PACK (URL), PASSWORD.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install default-mysql-server curl unzip >/dev/null
curl -fsS "$PACK" -o /tmp/pack.zip
unzip -q /tmp/pack.zip '*/dbscripts/*' -d /tmp/pack
cd /tmp/pack/*/dbscripts

load() { # database, account, script
  mariadb -e "CREATE DATABASE $1 CHARACTER SET utf8; GRANT ALL ON $1.* TO '$2'@'%' IDENTIFIED BY '$PASSWORD'"
  { echo "SET SESSION sql_mode = '';"; cat "$3"; } | mariadb "$1"
}
load WSO2_USER_DB wso2_user mysql.sql
load WSO2_REGISTRY_DB wso2_registry mysql.sql
load WSO2_SOCIAL_DB wso2_social social/mysql/resource.sql
load WSO2_STORAGE_DB wso2_storage storage/mysql/resource.sql
load WSO2_BPS_DB wso2_bps bps/bpel/create/mysql.sql

printf '[mysqld]\nbind-address = 127.0.0.1,%s\nskip-name-resolve\nmax_connections = 500\n' "$SELF" \
  >/etc/mysql/mariadb.conf.d/99-cluster.cnf
systemctl restart mariadb
