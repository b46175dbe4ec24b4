/* The version that `agentctl version` and `status` show. */
#ifndef SLIPWAY_BASE_VERSION_H
#define SLIPWAY_BASE_VERSION_H

#define SLIPWAY_VERSION "0.1.0"
/* When it was released, seconds since 1970: no board that runs it can be earlier. Raised with each version. */
#define SLIPWAY_RELEASED_S 1767225600

#endif
