# What differs from one target to the next. Included by the top Makefile and by deps.mk, with TARGET set.
#
# CROSS      prefix of Debian's cross gcc
# ARCH       code generation flags
# MUSL       triplet that musl's configure is told
# UAPI       folders whose linux/, asm/, asm-generic/ and mtd/ are the kernel's headers
# NEEDS      Debian packages, as toolchain/packages installs them

ifeq ($(TARGET),x86_64)
CROSS := x86_64-linux-gnu-
ARCH  :=
MUSL  := x86_64-linux-musl
UAPI  := /usr/include /usr/include/x86_64-linux-gnu
NEEDS := gcc libc6-dev
else ifeq ($(TARGET),armv7)
CROSS := arm-linux-gnueabihf-
ARCH  := -march=armv7-a+fp -mthumb
MUSL  := arm-linux-musleabihf
UAPI  := /usr/arm-linux-gnueabihf/include
NEEDS := gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
else ifeq ($(TARGET),armv5)
CROSS := arm-linux-gnueabi-
ARCH  := -march=armv5te -marm
MUSL  := arm-linux-musleabi
UAPI  := /usr/arm-linux-gnueabi/include
NEEDS := gcc-arm-linux-gnueabi libc6-dev-armel-cross
else ifeq ($(TARGET),aarch64)
CROSS := aarch64-linux-gnu-
ARCH  :=
MUSL  := aarch64-linux-musl
UAPI  := /usr/aarch64-linux-gnu/include
NEEDS := gcc-aarch64-linux-gnu libc6-dev-arm64-cross
else ifeq ($(TARGET),san)
# The host's own glibc, dynamic, with the address and undefined-behaviour sanitizers.
CROSS :=
ARCH  :=
NEEDS := gcc libc6-dev
else
$(error unknown TARGET '$(TARGET)')
endif

TARGET_CC := $(CROSS)gcc
SAN_FLAGS := -fsanitize=address,undefined -fno-omit-frame-pointer

# Every source file of the product, ours or a library's, is compiled with these.
ifeq ($(TARGET),san)
TARGET_FLAGS := $(ARCH) -g -O1 $(SAN_FLAGS)
SIZE_OPT  :=
SPEED_OPT :=
else
TARGET_FLAGS := $(ARCH) -fno-pie -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables
SIZE_OPT  := -Os
SPEED_OPT := -O2
endif

SLIPWAY_CACHE ?= $(HOME)/.cache/slipway

# A cache entry's name holds a hash of all that went into it.
toolchain := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
hash_of = $(firstword $(shell { $(1); } 2>/dev/null | sha256sum | cut -c -16))
SRC_KEY := $(call hash_of,cat $(toolchain)/deps.lock $(toolchain)/fetch $(toolchain)/patches/*)
DEP_KEY := $(call hash_of,echo $(SRC_KEY); cat $(toolchain)/deps.mk $(toolchain)/targets.mk $(toolchain)/config/*.h $(toolchain)/config/*/*.h; $(TARGET_CC) -v 2>&1)
SOURCES := $(SLIPWAY_CACHE)/src-$(SRC_KEY)
SYSROOT := $(SLIPWAY_CACHE)/$(TARGET)-$(DEP_KEY)
