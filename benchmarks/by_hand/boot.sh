# A first boot by hand: start, then wait for the log's line. Nodes go one after the other. Environment: SECONDS_AT_MOST.
set -eu
systemctl start wso2carbon.service
timeout "$SECONDS_AT_MOST" sh -c \
  'until grep -q "WSO2 Carbon started in" /opt/wso2/greg/repository/logs/wso2carbon.log 2>/dev/null; do sleep 0.1; done'
