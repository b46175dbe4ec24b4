# A thousand agents on one tag, and a hundred thousand boards by the same decisions (tests/fleet/README.md).
$(OUT)/obj/tests/fleet/day.o: compile += -O2

$(OUT)/day: $(OUT)/obj/tests/fleet/day.o $(OUT)/libslipway.a
	@echo "  LINK    $@"
	@$(link_start) -o $@ $^ $(link_libs)

fleet: all $(OUT)/day
	@$(OUT)/day
	@tests/fleet/fleet

-include $(OUT)/obj/tests/fleet/day.d
