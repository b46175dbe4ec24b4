# Builds the sysroot of one TARGET (targets.mk): musl, the libraries, their headers. toolchain/deps runs this.
#
# The libraries are compiled straight from their sources with the headers of config/; none of their own build systems
# runs. Hot loops get SPEED_OPT, the rest SIZE_OPT: 12 KB more on armv7 buy the whole speed of an all -O2 build.

include $(dir $(lastword $(MAKEFILE_LIST)))targets.mk

# The build happens in OUT, which toolchain/deps then renames to SYSROOT.
OUT ?= $(error OUT is not set)

AR := $(CROSS)ar
libs := mbedtls curl curl_noproxy archive cjson lz4 zstd z
config := $(toolchain)/config

all: $(libs:%=$(OUT)/lib/lib%.a) $(OUT)/include/.done
	cp $(SOURCES)/revisions $(OUT)/revisions
	rm -rf $(OUT)/obj

# --- libc ---------------------------------------------------------------------------------------------------------

ifdef MUSL
LIBC := $(OUT)/lib/libc.a
LIBC_FLAGS = -nostdinc -isystem $(OUT)/include -isystem $(shell $(TARGET_CC) -print-file-name=include)

$(LIBC):
	@echo "  MUSL    $(TARGET)"
	@mkdir -p $(OUT)/obj/musl $(OUT)/include
	@for d in linux asm asm-generic mtd; do \
	    for from in $(UAPI); do [ ! -d $$from/$$d ] || cp -rL $$from/$$d $(OUT)/include/; done; \
	done
	@cd $(OUT)/obj/musl && CC="$(TARGET_CC) $(ARCH)" CROSS_COMPILE=$(CROSS) $(SOURCES)/musl/configure \
	    --target=$(MUSL) --prefix=/ --disable-shared --disable-wrapper \
	    CFLAGS="-w -Os -fno-pie -ffunction-sections -fdata-sections -ffile-prefix-map=$(SOURCES)=" >configure.log
	@$(MAKE) -s -C $(OUT)/obj/musl DESTDIR=$(OUT) install
endif

# --- libraries ----------------------------------------------------------------------------------------------------

mbedtls_src := $(wildcard $(SOURCES)/mbedtls/library/*.c)
mbedtls_fast := sha256 chacha20 poly1305 chachapoly gcm aes aesce aesni
mbedtls_flags := -I$(SOURCES)/mbedtls/include -I$(SOURCES)/mbedtls/library -I$(config) \
    -DMBEDTLS_CONFIG_FILE='<mbed_config.h>'

curl_src := $(wildcard $(addprefix $(SOURCES)/curl/lib/,*.c vauth/*.c vtls/*.c vquic/*.c vssh/*.c curlx/*.c))
curl_fast :=
curl_flags := -I$(config)/curl -I$(SOURCES)/curl/include -I$(SOURCES)/curl/lib $(mbedtls_flags) \
    -DHAVE_CONFIG_H -DBUILDING_LIBCURL -DCURL_STATICLIB -DCURL_MAX_WRITE_SIZE=65536

# For boards without CONFIG_HTTP_PROXY
curl_noproxy_src := $(curl_src)
curl_noproxy_fast :=
curl_noproxy_flags := $(curl_flags) -DCURL_DISABLE_PROXY

archive_src := $(wildcard $(SOURCES)/libarchive/libarchive/*.c)
archive_fast :=
archive_flags := -I$(config)/libarchive -I$(SOURCES)/libarchive/libarchive -DHAVE_CONFIG_H -D__LIBARCHIVE_BUILD

cjson_src := $(SOURCES)/cjson/cJSON.c
cjson_fast :=
cjson_flags := -DCJSON_NESTING_LIMIT=32 -DCJSON_HIDE_SYMBOLS

lz4_src := $(addprefix $(SOURCES)/lz4/lib/,lz4.c lz4hc.c lz4frame.c xxhash.c)
lz4_fast := lz4 xxhash
lz4_flags :=

zstd_src := $(wildcard $(addprefix $(SOURCES)/libzstd/lib/,common/*.c decompress/*.c decompress/*.S))
zstd_fast := %
zstd_flags := -DZSTD_LEGACY_SUPPORT=0

z_src := $(addprefix $(SOURCES)/zlib/,adler32.c crc32.c inffast.c inflate.c inftrees.c zutil.c)
z_fast := crc32 inffast
z_flags := -DHAVE_UNISTD_H

common_flags = $(LIBC_FLAGS) $(TARGET_FLAGS) -w -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fvisibility=hidden \
    -fstack-protector-strong -ffile-prefix-map=$(SOURCES)=

# library, source file
define object_rule
$(OUT)/obj/$(1)/$(subst /,_,$(2:$(SOURCES)/%=%)).o: $(2) | $(LIBC)
	@mkdir -p $$(@D)
	@$(TARGET_CC) $$(common_flags) $$(if $$(filter $$($(1)_fast),$(basename $(notdir $(2)))),$(SPEED_OPT),$(SIZE_OPT)) $$($(1)_flags) -c $$< -o $$@
endef

define library_rules
$(foreach src,$($(1)_src),$(eval $(call object_rule,$(1),$(src))))
$(OUT)/lib/lib$(1).a: $(foreach src,$($(1)_src),$(OUT)/obj/$(1)/$(subst /,_,$(src:$(SOURCES)/%=%)).o)
	@echo "  LIB     $(TARGET) $(1)"
	@mkdir -p $$(@D)
	@$(AR) rcsD $$@ $$^
endef

$(foreach lib,$(libs),$(eval $(call library_rules,$(lib))))

# --- headers, where Debian's -dev packages have them -----------------------------------------------------------------

$(OUT)/include/.done: | $(LIBC)
	@mkdir -p $(OUT)/include/curl $(OUT)/include/cjson
	@cp $(SOURCES)/curl/include/curl/*.h $(OUT)/include/curl/
	@cp -r $(SOURCES)/mbedtls/include/mbedtls $(SOURCES)/mbedtls/include/psa $(config)/mbed_config.h $(OUT)/include/
	@cp $(SOURCES)/cjson/cJSON.h $(OUT)/include/cjson/
	@cp $(addprefix $(SOURCES)/libarchive/libarchive/,archive.h archive_entry.h) $(OUT)/include/
	@cp $(addprefix $(SOURCES)/lz4/lib/,lz4.h lz4frame.h xxhash.h) $(OUT)/include/
	@cp $(addprefix $(SOURCES)/libzstd/lib/,zstd.h zstd_errors.h) $(OUT)/include/
	@cp $(addprefix $(SOURCES)/zlib/,zlib.h zconf.h) $(OUT)/include/
	@touch $@

.PHONY: all
