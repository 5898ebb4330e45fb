#!/usr/bin/env bash
# certificates.sh FOLDER: a certificate authority, and leaves for Asterisk and webtrunk, for one run of the tests.
set -euo pipefail
cd "$1"
[ -e ca.pem ] && exit 0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=webtrunk test CA" 2> /dev/null
for name in asterisk webtrunk; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -out "$name.csr" -subj "/CN=$name.test" 2> /dev/null
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$name.pem" \
    -extfile <(printf 'subjectAltName=DNS:%s.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' "$name") 2> /dev/null
done
