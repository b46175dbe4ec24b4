# U-Boot's part of an A/B board: choose a slot, count one try, start it. Kept between boots, in the environment:
#
#   BOOT_ORDER              slots, the first to be tried first                   "A B"
#   BOOT_A_LEFT BOOT_B_LEFT starts left before the slot is passed over, 0 to 9   3
#
# The names and their meaning are RAUC's. The count is stored before the slot is touched, so whatever happens from here
# on - no kernel in the slot, a panic, a hang that a watchdog ends - has cost a try. The agent gives the tries back when
# the system proved healthy. When no slot has any left, all that BOOT_ORDER names start again at 3: a board that can't
# boot at all keeps trying. A slot that is not named is never started: the agent takes out what it is writing to.
#
# The words between @ come from the board's image.conf. hush of U-Boot: no `test && a || b`, it loses the value.

test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

setenv slot
for candidate in ${BOOT_ORDER}; do
	if test -n "${slot}"; then
		true
	elif test "${candidate}" = "A" -a "${BOOT_A_LEFT}" -gt 0; then
		setenv slot A
		setenv partition 2
		setenv label slot-a
		setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
		echo "slot A, tries left after this one: ${BOOT_A_LEFT}"
	elif test "${candidate}" = "B" -a "${BOOT_B_LEFT}" -gt 0; then
		setenv slot B
		setenv partition 3
		setenv label slot-b
		setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
		echo "slot B, tries left after this one: ${BOOT_B_LEFT}"
	fi
done

if test -z "${slot}"; then
	echo "no slot has tries left: all start again"
	setenv BOOT_A_LEFT 3
	setenv BOOT_B_LEFT 3
	saveenv
	reset
fi
saveenv

setenv bootargs "console=@CONSOLE@,115200 printk.devkmsg=on root=PARTLABEL=${label} rootfstype=ext4 rootwait ro panic=5 @KERNEL_ARGS@ slipway.slot=${slot} ${slipway_args}"
if load mmc 0:${partition} ${kernel_addr_r} /boot/kernel; then
	@START@
fi
echo "slot ${slot} does not start"
sleep 1
reset
