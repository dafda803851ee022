#!/bin/sh
# Set up what the targets of the Makefile need: system packages by the system's own package manager, then a virtual
# environment. Usage: tools/setup.sh demo|test|lowest|fuzz|bench|lab VENV. It announces what it does.
set -eu

purpose=$1
venv=$2

missing=""
need() { # need WHAT TEST...: note WHAT unless the test holds
	what=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $what"
}
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1"; }
has_library() {
	for path in /lib*/"$1"* /lib*/*/"$1"* /usr/lib*/"$1"* /usr/lib*/*/"$1"*; do
		if [ -e "$path" ]; then return 0; fi
	done
	return 1
}

has_file() { # has_file PATTERN: whether the shell found something for it
	test -e "$1"
}

need clang has clang
need libbpf-headers test -e /usr/include/bpf/bpf_helpers.h
need libbpf has_library libbpf.so.
need venv python3 -c 'import venv, ensurepip'
need unshare has unshare
if [ "$purpose" = test ]; then
	need llvm has llvm-strip
	need bpftool has bpftool
	need libbpf-tools test -e /usr/sbin/runqslower
	need binutils has objdump
	need cpio has cpio
	need zstd has zstd
	need lz4 has lz4
	need xz has xz
	need ip has ip
	need gcc-bpf has bpf-gcc
	need musl has musl-gcc
	need zsh has zsh
	need fish has fish
	need postgresql has_file /usr/lib/postgresql/*/bin/postgres
fi
if [ "$purpose" = bench ]; then
	need compiler has cc
	need bpftool has bpftool
	need libbpf-tools test -e /usr/sbin/runqslower
	need tar has tar
	need xz has xz
fi
if [ "$purpose" = lab ]; then
	need qemu has qemu-system-x86_64
	need bpftool has bpftool
	need debian-archive-keyring test -e /usr/share/keyrings/debian-archive-keyring.gpg
	need zstd has zstd
	need lz4 has lz4
fi

package() { # package MANAGER WHAT: the package that WHAT is in
	case $1:$2 in
	apt:libbpf-headers) echo libbpf-dev linux-libc-dev ;;
	apt:compiler) echo gcc libc6-dev ;;
	apt:libbpf) apt-cache pkgnames libbpf | grep -x 'libbpf[01]' | tail -n 1 ;;
	apt:venv) echo python3 python3-venv ;;
	apt:unshare) echo util-linux ;;
	apt:qemu) echo qemu-system-x86 ;;
	apt:xz) echo xz-utils ;;
	apt:ip) echo iproute2 ;;
	apt:musl) echo musl-tools ;;
	dnf:libbpf-headers) echo libbpf-devel kernel-headers ;;
	dnf:compiler) echo gcc ;;
	dnf:venv) echo python3 python3-pip ;;
	dnf:unshare) echo util-linux ;;
	dnf:qemu) echo qemu-system-x86-core ;;
	dnf:ip) echo iproute ;;
	dnf:musl) echo musl-gcc ;;
	dnf:gcc-bpf | apk:gcc-bpf) ;; # their compilers for BPF go by other names, and the tests of it skip
	dnf:libbpf-tools | apk:libbpf-tools) ;; # the objects of Debian's package are a test's corpus; others have none
	dnf:postgresql | apk:postgresql) ;; # elsewhere it is not in /usr/lib/postgresql, where the test looks
	apk:libbpf-headers) echo libbpf-dev linux-headers ;;
	apk:compiler) echo gcc musl-dev ;;
	apk:venv) echo python3 py3-pip ;;
	apk:unshare) echo util-linux-misc ;;
	apk:qemu) echo qemu-system-x86_64 ;;
	apk:ip) echo iproute2 ;;
	apk:musl) ;; # there musl is the C library, and the test that asks for musl-gcc skips
	*) echo "$2" ;;
	esac
}

if [ -n "$missing" ]; then
	root=""
	if [ "$(id -u)" != 0 ]; then
		root=$(command -v sudo || true)
	fi
	manager=""
	for candidate in apt-get dnf apk; do
		if [ -z "$manager" ] && command -v $candidate >/dev/null; then manager=$candidate; fi
	done
	if [ -z "$manager" ] || { [ "$(id -u)" != 0 ] && [ -z "$root" ]; }; then
		echo "Missing:$missing. Installing them needs root, and apt, dnf or apk; going on without." >&2
	else
		short=${manager%-get}
		if [ "$short" = apt ]; then
			$root apt-get update -qq
		fi
		packages=""
		for what in $missing; do
			packages="$packages $(package "$short" "$what")"
		done
		# shellcheck disable=SC2086  # a list of words, on purpose
		set -- $packages
		echo "Missing:$missing. Installing with $short: $*"
		case $short in
		apt) $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ;;
		dnf) $root dnf install -y -q "$@" ;;
		apk) $root apk add -q "$@" ;;
		esac
	fi
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
	echo "python3 is $(python3 --version 2>&1); hatch-bpf builds with Python 3.10 or newer." >&2
	exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
	echo "Making the virtual environment $venv"
	python3 -m venv "$venv"
fi
stamp="$venv/installed-for-$purpose"
if [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml tests/constraints.txt -newer "$stamp")" ]; then
	echo "Installing hatch-bpf and what it needs into $venv"
	constraints=tests/constraints.txt
	case $purpose in
	demo) extra="" ;;
	fuzz) extra="[test,fuzz]" ;;
	lowest)
		extra="[test]"
		constraints="$venv/lowest.txt"
		"$venv/bin/python" tools/lowest.py >"$constraints"
		;;
	*) extra="[test]" ;;
	esac
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" --editable ".$extra"
	touch "$stamp"
fi
# what the example's wheel carries
if [ "$purpose" != fuzz ] && ! "$venv/bin/python" -m tools.libbpf --arch x86_64 --arch arm64; then
	echo "Going on without libbpf's libraries: packages need the option libbpf = \"system\" here." >&2
fi
