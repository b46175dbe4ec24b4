/* The role `forward`: what comes to a published port of the board goes on to the app in its network namespace. One process
 * beside each app that has `ports`; agentd opens the ports and hands them down (sup/publish.h), so that they stay when this
 * process, or the app, is started anew.
 *
 * It lives in the app's namespace without any privilege: whoever takes it over reaches the app and who talks to it, nothing
 * else. No byte is kept in here: one is taken from a connection when the other side has taken it (MSG_PEEK, MSG_TRUNC), so
 * that what one side can't take yet holds up the other, and memory is the same for one connection and for all.
 *
 * TCP: a connection of its own to 127.0.0.1, or ::1 where nobody listens there; ends are passed on one by one. One that the
 * app refuses is tried again for a second, as an app that restarts is soon back. With CONFIG_APP_CONNECTIONS open, more wait
 * in the kernel's queue.
 * UDP: the sender's address has a socket of its own towards the app, until nothing was said for a minute; when there are more
 * than CONFIG_APP_UDP_SESSIONS, the one that was silent longest goes. Answers leave from the address that was asked.
 */
#ifndef SLIPWAY_SUP_FORWARD_H
#define SLIPWAY_SUP_FORWARD_H

#define FORWARD_FD_NET 3   /* the app's network namespace */
#define FORWARD_FD_FIRST 4 /* the ports, bound, in the order of the arguments */

/* forward UID PORT...: run as user UID; PORT is the app's, for each descriptor. Ends only by a signal or with a failure. */
int forward_main(int argc, char **argv);

#endif
