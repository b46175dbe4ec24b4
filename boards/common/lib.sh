# What the image scripts share: errors, the cache of slow artefacts, and Debian packages of any architecture without
# touching the machine's own package database. Sourced by scripts that have done `set -eu`.

CACHE=${SLIPWAY_CACHE:-$HOME/.cache/slipway}
DEBIAN_RELEASE=bookworm

# Called by make, which hands its variables on: U-Boot's own makefiles take BOARD for theirs.
unset BOARD MAKEFLAGS MAKEOVERRIDES

# The one time that files of images have, and that layers are made at.
export SOURCE_DATE_EPOCH=1767225600

say() { echo "boards: $*" >&2; }
die() { say "$*"; exit 1; }

# Hash of the files and words given: the part of a cache name that says what went in.
inputs_hash() {
	for word; do
		if [ -f "$word" ]; then cat "$word"; else echo "${word##*/}"; fi
	done | sha256sum | cut -c 1-16
}

# cached NAME COMMAND...: print the folder that `COMMAND... FOLDER` fills, running it only when it was not filled before.
# The folder appears by rename, so it is whole or absent; a lock lets one of several callers do the work.
cached() {
	dir=$CACHE/$1
	shift
	if [ ! -d "$dir" ]; then
		mkdir -p "$CACHE"
		flock "$dir.lock" sh "$BOARDS/common/fill" "$dir" "$@" >&2
	fi
	echo "$dir"
}

# debian_index ARCH: print the apt configuration of a private, up to date index of Debian main for ARCH and its sources.
# The mirror is the one this machine uses, or $SLIPWAY_DEBIAN_MIRROR. Only main: point releases move together there.
debian_index() {
	apt_dir=$CACHE/apt-$1
	mkdir -p "$apt_dir"
	flock "$apt_dir/lock" sh "$BOARDS/common/debian-index" "$apt_dir" "$1" >&2
	echo "$apt_dir/apt.conf"
}

# debian_version APT_CONFIG PACKAGE
debian_version() {
	version=$(APT_CONFIG=$1 apt-cache show --no-all-versions "$2" 2>/dev/null | sed -n 's/^Version: //p')
	[ -n "$version" ] || die "no package $2 in Debian $DEBIAN_RELEASE main"
	echo "$version"
}

# board_kernel BOARD-FOLDER: print the folder with the kernel of a board: built, when the board has a linux.config, or
# Debian's own.
board_kernel() {
	if [ -e "$1/linux.config" ]; then
		recipe=$BOARDS/common/linux
		input=$1/linux.config
	else
		recipe=$BOARDS/common/linux-debian
		input=$BOARDS/common/initrd-init
	fi
	version=$(debian_version "$(debian_index "$DEB_ARCH")" "$LINUX_PACKAGE")
	cached "linux-${1##*/}-$(inputs_hash "$version $CROSS ${LINUX_ARCH:-} ${LINUX_TARGET:-} ${LINUX_MODULES:-}${LINUX_DTB:+ $LINUX_DTB}${LINUX_DTBS:+ $LINUX_DTBS}" \
		"$input" "$recipe")" sh "$recipe" "$1"
}

# board_uboot BOARD-FOLDER: print the folder with the boot loader of a board, built if need be.
board_uboot() {
	version=$(debian_version "$(debian_index "$DEB_ARCH")" u-boot-qemu)
	cached "uboot-${1##*/}-$(inputs_hash "$version $CROSS $UBOOT_DEFCONFIG $UBOOT_CONFIG ${UBOOT_FLAGS:-}" \
		"$BOARDS/common/uboot.config" "$BOARDS/common/uboot")" \
		sh "$BOARDS/common/uboot" "$1"
}
