/* The version that `agentctl version` and `status` show. */
#ifndef SLIPWAY_BASE_VERSION_H
#define SLIPWAY_BASE_VERSION_H

#define SLIPWAY_VERSION "0.1.0"

#endif
