/* The agent's own log: one line on stderr per event, "agentd: warning: ...". The board's init decides where
 * stderr goes. Never secrets, never bytes from the network unescaped. */
#ifndef SLIPWAY_BASE_LOG_H
#define SLIPWAY_BASE_LOG_H

void log_role(const char *role); /* the name in front of each line; a string that lives for ever */
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Our own mistakes; stays in production. Never for data from network or flash. */
#define ASSERT(cond)                                                                                         \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            assert_failed(#cond, __FILE__, __LINE__);                                                        \
    } while (0)
void assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

#endif
