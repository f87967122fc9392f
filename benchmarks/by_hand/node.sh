# A G-Reg node by hand, up to its first boot. The shipped key stays, so this is less than chapter 04 does.
# Environment: SELF, TIER (store or publisher), OTHER (the other tier), MEMBERS (addresses of the tier), DB, PACK,
# PASSWORD, STORE and PUBLISHER (public hosts).
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install default-jre-headless libmariadb-java curl unzip >/dev/null
useradd --system --user-group --home-dir /opt/wso2/greg --shell /usr/sbin/nologin wso2
mkdir -p /opt/wso2
curl -fsS "$PACK" -o /tmp/pack.zip
unzip -q /tmp/pack.zip -d /opt/wso2 && mv /opt/wso2/wso2greg-* /opt/wso2/greg
cp /usr/share/java/mariadb-java-client.jar /opt/wso2/greg/repository/components/lib/

cd /opt/wso2/greg/repository/conf
case $TIER in store) host=$STORE ;; publisher) host=$PUBLISHER ;; esac
url() { echo "jdbc:mysql://$DB:3306/$1?useMysqlMetadata=true"; }

shared() { # database, JNDI name, account: a datasource for master-datasources.xml
  cat <<XML
        <datasource><name>$1</name><jndiConfig><name>$2</name></jndiConfig>
            <definition type="RDBMS"><configuration>
                <url>$(url "$1")</url><username>$3</username><password>$PASSWORD</password>
                <driverClassName>org.mariadb.jdbc.Driver</driverClassName>
                <maxActive>80</maxActive><testOnBorrow>true</testOnBorrow><validationQuery>SELECT 1</validationQuery>
            </configuration></definition>
        </datasource>
XML
}
moved() { # file, datasource, database, account
  sed -i "/<name>$2</,/<\/datasource>/ {
    s|<url>.*</url>|<url>$(url "$3")</url>|
    s|<username>.*</username>|<username>$4</username>|
    s|<password>.*</password>|<password>$PASSWORD</password>|
    s|<driverClassName>.*</driverClassName>|<driverClassName>org.mariadb.jdbc.Driver</driverClassName>| }" "$1"
}
{ shared WSO2_USER_DB jdbc/WSO2UMDB wso2_user; shared WSO2_REGISTRY_DB jdbc/WSO2RegistryDB wso2_registry; } >/tmp/shared.xml
sed -i '/<datasources>/r /tmp/shared.xml' datasources/master-datasources.xml
moved datasources/master-datasources.xml JAGH2 WSO2_STORAGE_DB wso2_storage
moved datasources/social-datasources.xml WSO2_SOCIAL_DB WSO2_SOCIAL_DB wso2_social
moved datasources/bps-datasources.xml BPS_DS WSO2_BPS_DB wso2_bps

cat >/tmp/mounts.xml <<XML
    <dbConfig name="shared"><dataSource>jdbc/WSO2RegistryDB</dataSource></dbConfig>
    <remoteInstance url="https://localhost:9443/registry">
        <id>shared</id><dbConfig>shared</dbConfig><readOnly>false</readOnly><enableCache>false</enableCache>
        <registryRoot>/</registryRoot><cacheId>wso2_registry@$(url WSO2_REGISTRY_DB)</cacheId>
    </remoteInstance>
    <mount path="/_system/config" overwrite="true">
        <instanceId>shared</instanceId><targetPath>/_system/config/greg</targetPath>
    </mount>
    <mount path="/_system/governance" overwrite="true">
        <instanceId>shared</instanceId><targetPath>/_system/governance</targetPath>
    </mount>
XML
sed -i '0,/<\/dbConfig>/ { /<\/dbConfig>/r /tmp/mounts.xml
}' registry.xml
sed -i 's|jdbc/WSO2CarbonDB|jdbc/WSO2UMDB|; s|<Password>admin</Password>|<Password>'"$PASSWORD"'</Password>|' user-mgt.xml
sed -i 's|<!--HostName>.*|<HostName>'"$host"'</HostName>|; s|<!--MgtHostName>.*|<MgtHostName>'"$host"'</MgtHostName>|' carbon.xml
sed -i "s|port=\"9763\"|port=\"9763\" proxyPort=\"80\" address=\"$SELF\"|
        s|port=\"9443\"|port=\"9443\" proxyPort=\"443\" address=\"$SELF\"|" tomcat/catalina-server.xml
members=$(for address in $MEMBERS; do echo "<member><hostName>$address</hostName><port>4000</port></member>"; done | tr -d '\n')
sed -i '/<clustering/,/<\/clustering>/ {
  s|enable="false"|enable="true"|
  s|"membershipScheme">multicast|"membershipScheme">wka|
  s|"domain">wso2.carbon.domain|"domain">wso2.greg.'"$TIER"'.domain|
  s|"localMemberHost">[^<]*|"localMemberHost">'"$SELF"'|
  s|"localMemberPort">[^<]*|"localMemberPort">4000| }' axis2/axis2.xml
sed -i "/<clustering/,/<\/clustering>/ { /<members>/,/<\/members>/c <members>$members</members>
}" axis2/axis2.xml
sed -i "s|https://localhost:9443/publisher/acs|https://$PUBLISHER/publisher/acs|
        s|https://localhost:9443/\(store\|social\)/acs|https://$STORE/\1/acs|" identity/sso-idp-config.xml
rm -rf "../deployment/server/jaggeryapps/$OTHER"

cat >/etc/systemd/system/wso2carbon.service <<UNIT
[Unit]
After=network-online.target
[Service]
User=wso2
WorkingDirectory=/opt/wso2/greg
Environment=JAVA_HOME=/usr/lib/jvm/default-java
ExecStart=/bin/sh /opt/wso2/greg/bin/wso2server.sh -Dsetup
SuccessExitStatus=143
LimitNOFILE=65536
[Install]
WantedBy=multi-user.target
UNIT
chown -R wso2:wso2 /opt/wso2/greg
systemctl daemon-reload && systemctl -q enable wso2carbon.service
