#!/bin/sh
# What OpenWrt's build robots run with the package installed: the server needs no emulated timers for any of it.
set -e

case "$1" in
couplet)
	couplet --version | grep -F "$2"
	folder="$(mktemp -d)"
	export COUPLET_STORAGE__PATH="$folder" COUPLET_HOSTS=example.org
	couplet config show >/dev/null
	echo secret | couplet user add romeo@example.org --password-stdin
	couplet user list | grep -F romeo@example.org
	if grep -rqF secret "$folder"; then
		echo "test.sh: the password is on the disk" >&2
		exit 1
	fi
	couplet backup create
	couplet user del romeo@example.org
	rm -rf "$folder"
	;;
*)
	echo "test.sh: no test for package '$1'" >&2
	exit 1
	;;
esac
