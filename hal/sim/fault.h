/* The faulty device: every operation of a sim driver passes one counter, and the environment says which one goes
 * wrong. Run once clean to learn the number of operations, then with each of 1..N.
 *
 *     SLIPWAY_SIM_CUT=N      power goes at operation N: the process group is killed before it is done
 *     SLIPWAY_SIM_EIO=N      operation N fails with EIO
 *     SLIPWAY_SIM_ENOSPC=N   operation N fails with ENOSPC
 *     SLIPWAY_SIM_FLIP=N     what operation N put on the medium loses a bit (the sync of a disk, the settling of a file)
 *     SLIPWAY_SIM_COUNT=F    append "op\n" to file F for every operation
 *
 * Counted per process. Not for production builds: hal/sim is not in them.
 */
#ifndef SLIPWAY_HAL_SIM_FAULT_H
#define SLIPWAY_HAL_SIM_FAULT_H

/* Count one operation. Returns 0, or -1 with errno. */
int fault_point(const char *op);
/* Whether the operation counted last is the one that loses a bit; then do so to the first byte of `fd`. Returns 0, or -1
 * with errno. */
int fault_flip(int fd);
/* How many so far. */
unsigned long fault_count(void);
/* Read the environment anew and count from 0: for tests. */
void fault_reset(void);

#endif
