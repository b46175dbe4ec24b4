# The proof of the power-cut claim: the real core on a simulated medium (tests/README.md, "Cuts"). The core's system
# calls come to tests/cuts/kernel.c.
cuts_calls := open openat close fcntl read pread pwrite writev lseek ftruncate fsync fdatasync syncfs sync \
    sync_file_range posix_fadvise mkdir mkdirat symlinkat linkat unlink unlinkat rename readlinkat syscall fstat fstatat stat \
    access fchown fchownat fchmod fchmodat futimens utimensat llistxattr flistxattr fstatvfs mount umount2 fopen ioctl poll reboot \
    abort getrandom record_load
cuts_objects := $(patsubst %.c,$(OUT)/obj/%.o,$(wildcard tests/cuts/*.c))

$(cuts_objects): compile += -Itests/cuts -O2

$(OUT)/cuts: $(cuts_objects) $(OUT)/libslipway.a
	@echo "  LINK    $@"
	@$(link_start) $(cuts_calls:%=-Wl,--wrap=%) -o $@ $^ $(link_libs)

# SEED chooses what is kept where there are too many choices, SAMPLES of them; RATE: of the states after one cut, one in
# so many is cut again; ID replays one state.
cuts: $(OUT)/cuts
	@$(OUT)/cuts -j 2 $(if $(SEED),-s $(SEED)) $(if $(SAMPLES),-n $(SAMPLES)) $(if $(RATE),-r $(RATE)) \
	    $(if $(ID),-i $(ID))

-include $(cuts_objects:.o=.d)

$(OUT)/slipway-nosync: $(objects) $(OUT)/obj/tests/cuts/bad/nosync.o
	@echo "  LINK    $@"
	@$(link_start) -Wl,--wrap=fsync,--wrap=fdatasync -o $@ $^ $(link_libs)
	@$(STRIP) --strip-all $@

# On an emulated board: CUTS times at a random moment; and every state that the writes of an update allow.
soak: soak_board := $(if $(filter command environment,$(firstword $(origin BOARD))),$(BOARD),qemu-armv7)
soak:
	@tests/cuts/soak.py $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED)) $(soak_board)
	@tests/cuts/replay.py $(soak_board)
	@tests/cuts/replay.py --known-bad $(soak_board)
