/* Jobs of decode: one blob each. stage sends FRAME_JOB, FRAME_RAW.., FRAME_RAW_END; decode answers with entries or a
 * result and FRAME_JOB_END, or FRAME_ERR. After FRAME_ERR, decode drains its input up to FRAME_RAW_END and is ready
 * for the next job.
 */
#ifndef SLIPWAY_STREAM_JOB_H
#define SLIPWAY_STREAM_JOB_H

#include <stdint.h>

#include "base/hash.h"

enum codec { CODEC_NONE = 1, CODEC_GZIP, CODEC_ZSTD, CODEC_LZ4 };

enum job_kind {
    JOB_INDEX = 1, /* JSON of an image index: FRAME_RESULT struct oci_index_choice */
    JOB_MANIFEST,  /* JSON of a manifest: FRAME_RESULT struct oci_manifest */
    JOB_CONFIG,    /* JSON of an image config: FRAME_RESULT struct oci_config */
    JOB_LAYER,     /* a layer: FRAME_ENTRY.. */
    /* of the envelope role, which does JOB_INDEX besides */
    JOB_SIGNATURES, /* JSON that names signatures: FRAME_RESULT struct trust_refs */
    JOB_PAYLOAD,    /* what was signed: FRAME_RESULT struct trust_signed */
    JOB_BUNDLE,     /* JSON of a sigstore bundle: the same */
    /* of a layer that has a table of contents */
    JOB_TOC,   /* the table: FRAME_ENTRY.. with FRAME_PLACE and FRAME_CHUNK.. instead of content */
    JOB_PIECE, /* one file's or chunk's content: FRAME_DATA.. FRAME_ENTRY_END */
};

struct job {
    uint32_t kind;
    uint32_t codec;        /* JOB_LAYER, JOB_TOC, JOB_PIECE */
    uint32_t media;        /* JOB_INDEX, JOB_MANIFEST: enum oci_media that the document must be */
    uint64_t size;         /* of the raw bytes that will come; of JSON that has no size yet, the most */
    uint64_t content_max;  /* JOB_LAYER: refuse when the tar gets longer than this */
                           /* JOB_TOC, JOB_PIECE: what it must unpack to, exactly */
    struct digest diff_id; /* JOB_LAYER: the digest the tar must have */
    char only[256];        /* JOB_LAYER, JOB_TOC: hand on this one path and nothing else; "": all */
    uint64_t every;        /* JOB_LAYER: send a checkpoint whenever so many raw bytes went in; 0: never */
    uint64_t offset;       /* JOB_LAYER: the first raw byte that will come is this one of the blob, ... */
    uint32_t go_on;        /* ... and after this frame comes the FRAME_CHECKPOINT to go on from */
};

#define JOB_PLACE_MAX (48u * 1024)

/* FRAME_CHECKPOINT: this, and then what decode needs to go on from here, which is nobody else's business: at most
 * JOB_PLACE_MAX bytes. Of the entry whose content is just being handed on, FRAME_ENTRY comes once more then, and the
 * content that is still missing. It stands where all that came before has been said. */
struct job_checkpoint {
    uint64_t at;    /* of the blob: the next byte that decode will need */
    uint64_t xxh64; /* of what has come of the present entry's content */
    uint32_t open;  /* 1: there is such an entry */
    uint32_t zero;
};

struct job_end {
    uint64_t tar_len; /* bytes of the tar, all of which went through the diff_id */
};

#endif
