# Slipway. `make help` lists what there is to build; toolchain/README.md says how the libraries come about.

BOARD ?= sim
DEPS  ?= pinned
SAN   ?= 0

ifeq ($(SAN),1)
override BOARD := sim
OUT := out/sim-san
else
OUT := out/$(BOARD)
endif

PYTHON := /usr/bin/python3
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# Goals that need no board's configuration.
no_config := help clean setup lint size unit defconfig demo check bench fuzz
ifneq ($(filter-out $(no_config),$(or $(MAKECMDGOALS),all)),)
include $(OUT)/.config
endif

# --- configuration ---------------------------------------------------------------------------------------------------

boards    := $(sort $(patsubst boards/%/defconfig,%,$(wildcard boards/*/defconfig)))
defconfig := boards/$(BOARD)/defconfig
kconfigs  := Kconfig agent/Kconfig hal/Kconfig boards/Kconfig $(wildcard boards/*/Kconfig)
kconfig    = KCONFIG_CONFIG=$(OUT)/.config $(PYTHON) -m

ifeq ($(filter $(BOARD),$(boards)),)
$(error no board '$(BOARD)'; there are: $(boards))
endif

# A new defconfig replaces the configuration. New Kconfig files bring one that a person changed up to date; one that was
# made here (.made is its copy) is made anew, with the new defaults.
$(OUT)/.config: $(defconfig) $(kconfigs) toolchain/checks/defconfig
	@toolchain/checks/defconfig $(BOARD)
	@mkdir -p $(@D)
	@if [ $@ -nt $(defconfig) ] && ! cmp -s $@ $@.made; then $(kconfig) olddefconfig >/dev/null; \
	else echo "  CONFIG  $(defconfig)"; $(kconfig) defconfig $(defconfig) >/dev/null; cp $@ $@.made; fi
	@touch $@

# genconfig leaves the header alone when nothing in it changes, and so do the objects' dependency files.
$(OUT)/include/.stamp: $(OUT)/.config
	@mkdir -p $(@D)
	@$(kconfig) genconfig --header-path=$(@D)/autoconf.h
	@touch $@
$(OUT)/include/autoconf.h: $(OUT)/include/.stamp ;

menuconfig oldconfig: $(OUT)/.config
	$(kconfig) $@

defconfig:
	@rm -f $(OUT)/.config
	@$(MAKE) --no-print-directory $(OUT)/.config

savedefconfig: $(OUT)/.config
	$(kconfig) savedefconfig --out=$(defconfig)

# --- target, libraries -----------------------------------------------------------------------------------------------

ifeq ($(SAN),1)
TARGET := san
else
TARGET := $(strip $(if $(CONFIG_TARGET_ARMV7),armv7) $(if $(CONFIG_TARGET_ARMV5),armv5) \
    $(if $(CONFIG_TARGET_AARCH64),aarch64) $(if $(CONFIG_TARGET_X86_64),x86_64))
endif

libs := $(if $(CONFIG_HTTP_PROXY),curl,curl_noproxy) mbedtls archive cjson lz4 zstd z
warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla
common := -std=gnu11 $(warnings) -g -I. -Iagent -I$(OUT)/include -include toolchain/kconfig.h \
    -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64 -fstack-protector-strong -ffile-prefix-map=$(CURDIR)=.

ifneq ($(filter fuzz,$(MAKECMDGOALS))$(if $(TARGET),,none),)
# Only goals that compile nothing get here, and fuzz, whose TARGET is another.
else ifeq ($(DEPS),system)
# Whatever compiler and sysroot the caller has, so no -Werror; linked dynamically (toolchain/README.md).
CC := $(if $(filter default,$(origin CC)),$(CROSS_COMPILE)gcc,$(CC))
STRIP := $(CROSS_COMPILE)strip
PKG_CONFIG ?= pkg-config
packages := libcurl libarchive libcjson liblz4 libzstd zlib libxxhash
compile := $(CC) $(common) -Os -ffunction-sections -fdata-sections $(shell $(PKG_CONFIG) --cflags $(packages)) $(CFLAGS)
# mbedTLS before 3.6 comes without a .pc file.
link_libs := $(shell $(PKG_CONFIG) --libs $(packages)) \
    $(or $(shell $(PKG_CONFIG) --libs mbedtls mbedx509 mbedcrypto 2>/dev/null),-lmbedtls -lmbedx509 -lmbedcrypto)
link_start := $(CC) -Wl,--gc-sections $(LDFLAGS)
else
include toolchain/targets.mk
STRIP := $(CROSS)strip
inc := $(SYSROOT)/include
lib_flags = -ffile-prefix-map=$(SYSROOT)=deps -isystem $(inc) -isystem $(inc)/cjson -DMBEDTLS_CONFIG_FILE='<mbed_config.h>'
libs_ready := $(SYSROOT)/lib/libz.a
compile = $(TARGET_CC) $(TARGET_FLAGS) $(SIZE_OPT) $(common) -Werror $(lib_flags)
ifeq ($(SAN),1)
common += -fno-sanitize-recover=undefined
link_start = $(TARGET_CC) $(TARGET_FLAGS)
link_libs = $(libs:%=$(SYSROOT)/lib/lib%.a)
else
# musl is found by path and not by its specs file, which would tie the cache to one place.
lib_flags += -nostdinc -isystem $(shell $(TARGET_CC) -print-file-name=include)
link_start = $(TARGET_CC) $(ARCH) -static -no-pie -nostdlib -Wl,--gc-sections,--build-id=none $(SYSROOT)/lib/crt1.o \
    $(SYSROOT)/lib/crti.o
link_libs = -Wl,--start-group $(libs:%=$(SYSROOT)/lib/lib%.a) $(SYSROOT)/lib/libc.a -lgcc -lgcc_eh -Wl,--end-group \
    $(SYSROOT)/lib/crtn.o
endif

ifeq ($(shell command -v $(TARGET_CC)),)
$(error $(TARGET_CC) is not installed; run: make setup)
endif

$(libs_ready):
	+@toolchain/deps $(SOURCES) $(SYSROOT) $(TARGET)
endif

# --- program ---------------------------------------------------------------------------------------------------------

sources := $(wildcard agent/*.c agent/*/*.c hal/*.c hal/linux/*.c) boards/$(BOARD)/board.c
ifeq ($(CONFIG_HAL_SIM),y)
sources += $(wildcard hal/sim/*.c)
endif
objects := $(sources:%.c=$(OUT)/obj/%.o)
main    := $(OUT)/obj/agent/main.o

all: $(OUT)/slipway $(OUT)/agentd $(OUT)/agentctl

# Rewritten only when the command changes, so that a change of flags or libraries rebuilds what it must.
$(OUT)/.command: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(compile) / $(link_start) $(link_libs))' | cmp -s - $@ || \
	    echo '$(subst ','\'',$(compile) / $(link_start) $(link_libs))' >$@

$(OUT)/obj/%.o: %.c $(OUT)/.command | $(OUT)/include/autoconf.h $(libs_ready)
	@mkdir -p $(@D)
	@echo "  CC      $*.c"
	@$(compile) -MMD -MP -c $< -o $@

$(OUT)/slipway.debug: $(objects) $(OUT)/.command
	@echo "  LINK    $(OUT)/slipway"
	@$(link_start) -Wl,-Map=$(OUT)/slipway.map -o $@ $(objects) $(link_libs)

$(OUT)/slipway: $(OUT)/slipway.debug
	@$(STRIP) --strip-all -o $@ $<

$(OUT)/agentd $(OUT)/agentctl: | $(OUT)/slipway
	@ln -sfn slipway $@

# --- unit tests: one program a file, all of the agent but its main(), sanitizers on ------------------------------------

test_sources  := $(wildcard tests/unit/test_*.c tests/hal/test_*.c)
test_programs := $(test_sources:%.c=$(OUT)/%)
test_parts := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard tests/hal/conform_*.c))

$(OUT)/libslipway.a: $(filter-out $(main),$(objects))
	@rm -f $@
	@ar rcs $@ $^

$(test_sources:%.c=$(OUT)/obj/%.o) $(test_parts): compile += -Itests

$(test_programs): $(OUT)/%: $(OUT)/obj/%.o $(test_parts) $(OUT)/libslipway.a
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(link_start) -o $@ $^ $(link_libs) -lcmocka

test-programs: $(test_programs)

unit:
	@$(MAKE) --no-print-directory SAN=1 test-programs
	@failed=0; for t in $(test_sources:%.c=out/sim-san/%); do $$t || { echo "FAILED: $$t"; failed=1; }; done; exit $$failed

include tests/cuts/cuts.mk
include tests/fleet/fleet.mk

-include $(objects:.o=.d) $(test_sources:%.c=$(OUT)/obj/%.d) $(test_parts:.o=.d)

# --- size, checks, help ----------------------------------------------------------------------------------------------

# Every board, or the one that is named.
size_boards := $(if $(filter command environment,$(firstword $(origin BOARD))),$(BOARD),$(boards))
size:
	@for b in $(size_boards); do $(MAKE) --no-print-directory BOARD=$$b all || exit 1; done
	@toolchain/size $(size_boards)

lint:
	@toolchain/checks/selftest
	@toolchain/checks/tree
	@toolchain/checks/includes
	@toolchain/checks/format
	@toolchain/checks/defconfig $(boards)

# These install what they need and build what they use.
demo:
	@toolchain/packages
	@tests/demo $(if $(filter command environment,$(firstword $(origin BOARD))),$(BOARD),qemu-armv7)
check:
	@tests/run
bench:
	@tests/bench/run
	@tests/bench/delta

fuzz:
	@$(MAKE) --no-print-directory -f tests/fuzz/Makefile $(if $(TARGET),run,build) $(if $(TARGET),TARGET=$(TARGET))

sbom: $(OUT)/slipway
	@toolchain/sbom $< $(BOARD) $(SYSROOT)/revisions $(TARGET_CC) >$<.spdx.json

image: all
	@boards/image $(BOARD)

# One program under two names; completion and the commented example are made of the man pages.
PREFIX ?= /usr/local
sbin := $(DESTDIR)$(PREFIX)/sbin
bin := $(DESTDIR)$(PREFIX)/bin
share := $(DESTDIR)$(PREFIX)/share
units := $(DESTDIR)$(PREFIX)/lib/systemd/system

install: all
	@install -d $(sbin) $(bin) $(units) $(share)/man/man1 $(share)/man/man5 $(share)/man/man8 $(share)/doc/slipway \
	    $(share)/bash-completion/completions $(share)/zsh/site-functions
	@install -m 755 $(OUT)/slipway $(sbin)/agentd
	@ln -sfn ../sbin/agentd $(bin)/agentctl
	@install -m 644 agent/man/agentctl.1 $(share)/man/man1
	@install -m 644 agent/man/agent.conf.5 $(share)/man/man5
	@install -m 644 agent/man/agentd.8 $(share)/man/man8
	@toolchain/docs bash >$(share)/bash-completion/completions/agentctl
	@toolchain/docs zsh >$(share)/zsh/site-functions/_agentctl
	@toolchain/docs conf >$(share)/doc/slipway/agent.conf
	@sed 's,@SBIN@,$(PREFIX)/sbin,' agent/agentd.service >$(units)/agentd.service

setup:
	@toolchain/packages

clean:
	rm -rf out

help:
	@sed -n 's/^#: \?//p' Makefile

#: make [BOARD=sim]          build out/BOARD/slipway (boards: see boards/)
#: make SAN=1                the same for sim with address and undefined-behaviour sanitizers, in out/sim-san
#: make DEPS=system CC=...   link with the libraries of the compiler's sysroot, dynamically
#: make setup                install the Debian packages that the build needs
#: make unit                 build and run the unit tests
#: make lint                 includes, tree, format and defconfigs as they ought to be
#: make cuts [SEED=n]        cut the power everywhere, in simulation; ID=... replays what failed
#: make soak [CUTS=200]      cut the emulated armv7 board off at random, and replay what it wrote
#: make fleet                a thousand agents on one tag, steered by what is pushed; 15 minutes
#: make size [BOARD=x]       flash and RAM of every board, or of one
#: make demo [BOARD=sim]     play the whole story, on the emulated armv7 board or on this machine
#: make check                all tests
#: make fuzz TARGET=x SECONDS=n   look for crashes in what is parsed: tests/fuzz/x.c, for n seconds
#: make bench                speed and memory, measured against the tools that people have
#: make sbom BOARD=x         out/x/slipway.spdx.json: the bill of materials, SPDX 2.3
#: make image BOARD=x        boards/image: a disk image for a board
#: make install BOARD=x      program, man pages, completion, systemd unit and an example agent.conf (DESTDIR, PREFIX)
#: make menuconfig | defconfig | savedefconfig | oldconfig BOARD=x
#: make clean                remove out/

FORCE:
.PHONY: all test-programs unit cuts soak fleet size lint demo check bench fuzz sbom image install setup clean help FORCE menuconfig oldconfig defconfig \
    savedefconfig
