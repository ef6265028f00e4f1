#!/bin/bash
# Installs what the tests and the demo use beside Go, where it is missing and apt-get is there. `install.sh kernel`, `install.sh newer`: what testing/uml/kernel/build needs.
set -euo pipefail

declare -A package=([ip]=iproute2 [ss]=iproute2 [nft]=nftables [ping]=iputils-ping [iperf3]=iperf3 [tcpdump]=tcpdump [sysctl]=procps [nsenter]=util-linux)

missing=()
if [ "${1:-}" = kernel ] || [ "${1:-}" = newer ]; then
	source=linux-source-6.1
	[ "$1" = kernel ] || source=linux-source-6.12
	for name in $source build-essential flex bison bc libelf-dev libssl-dev xz-utils iptables; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
else
	for tool in "${!package[@]}"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
	done
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}. Install them, or run this as root on Debian; tests that need them are skipped, loudly." >&2
	[ "${CI:-}" != true ] || exit 1
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install -y --no-install-recommends "${missing[@]}"
