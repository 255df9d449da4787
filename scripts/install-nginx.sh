#!/usr/bin/env bash
# nginx with the stream module, from Debian's packages. `--check` only says whether it is there.
. "$(dirname "$0")/lib.sh"

MODULE=/usr/lib/nginx/modules/ngx_stream_module.so
there() { { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; } && [ -e "$MODULE" ]; }

if there; then exit 0; fi
[ "${1:-}" = --check ] && die "nginx with the stream module is missing: run scripts/install-nginx.sh (Debian: nginx-light, libnginx-mod-stream)"
need apt-get "install nginx and its stream module by the means of your system"
[ "$(id -u)" = 0 ] || die "run as root, or install the Debian packages nginx-light and libnginx-mod-stream"
say "installing nginx-light and libnginx-mod-stream"
# The packaged service must not start: tests and examples run instances of their own.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d.directory && chmod +x /usr/sbin/policy-rc.d.directory
[ -e /usr/sbin/policy-rc.d ] || { mv /usr/sbin/policy-rc.d.directory /usr/sbin/policy-rc.d; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
rm -f /usr/sbin/policy-rc.d.directory
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nginx-light libnginx-mod-stream openssl >/dev/null
there || die "nginx was installed and is still not usable"
