# Nginx by hand: two hosts, each to its tier, a certificate that signs itself.
# Environment: STORE and PUBLISHER (public hosts), STORE_NODES and PUBLISHER_NODES (addresses).
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install nginx openssl >/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$STORE" \
  -addext "subjectAltName=DNS:$STORE,DNS:$PUBLISHER" -keyout /etc/nginx/host.key -out /etc/nginx/host.pem 2>/dev/null
site() { # host, name, nodes
  echo "upstream $2 { ip_hash; $(for address in $3; do echo "server $address:9443;"; done | tr '\n' ' ') }"
  cat <<CONF
server {
    listen 443 ssl;
    server_name $1;
    ssl_certificate /etc/nginx/host.pem;
    ssl_certificate_key /etc/nginx/host.key;
    location / {
        proxy_pass https://$2;
        proxy_set_header Host \$host;
        proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
        proxy_read_timeout 300s;
    }
}
CONF
}
rm -f /etc/nginx/sites-enabled/default
{ site "$STORE" store "$STORE_NODES"; site "$PUBLISHER" publisher "$PUBLISHER_NODES"; } >/etc/nginx/conf.d/cluster.conf
nginx -t -q && systemctl reload-or-restart nginx
