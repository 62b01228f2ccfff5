/*
 * What travels between manager, coordinator and this proplet: messages decoded as they arrive, and
 * encoded into a buffer of the caller's.
 *
 * Decoding takes a message in pieces of any size and constant memory, so that one which carries a
 * whole Wasm image in base64 needs no buffer of its own: the image goes to a stream. Unknown
 * fields are skipped. A field that does not fit its place is refused by name, not cut, unless it is
 * only for people. A known field given twice is refused too: two readers could take different ones.
 *
 *   struct fl_message_decoder decoder;
 *   struct fl_task_stop stop;
 *   fl_decode_task_stop(&decoder, &stop);
 *   status = fl_message_feed(&decoder, bytes, size);  (any number of times)
 *   status = fl_message_end(&decoder);
 */
#ifndef FL_MESSAGE_H
#define FL_MESSAGE_H

#include "fl_args.h"
#include "fl_base64.h"
#include "fl_env.h"
#include "fl_json.h"
#include "fl_sha256.h"
#include "fl_stream.h"
#include "fl_topic.h"
#include "fl_trust.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FL_TASK_ID_MAX 160   /* bytes */
#define FL_IMAGE_URL_MAX 255 /* bytes */
#define FL_MODEL_URI_MAX 74  /* bytes: fl/models/{id} */
#define FL_FORMAT_MAX 32     /* bytes */
#define FL_INPUTS_MAX 127    /* bytes: all of a function's arguments, with what separates them */
/* For people only: a longer text is kept in part, and ends in "...". */
#define FL_TASK_NAME_MAX 63
#define FL_REASON_MAX 31
#define FL_DETAIL_MAX 159

/* The codes are those that the host uses; fl_message_word() gives them as text. */
enum fl_message_status {
    FL_MESSAGE_OK,
    FL_MESSAGE_UNDECODABLE,   /* "undecodable": not JSON, not an object, or broken off */
    FL_MESSAGE_TOO_LARGE,     /* "too_large": a field is larger than its place here */
    FL_MESSAGE_MISSING_FIELD, /* "missing_field" */
    FL_MESSAGE_BAD_FIELD, /* "bad_field": of the wrong type, twice, or with an impossible value */
    FL_MESSAGE_BAD_ID,    /* "bad_id": a string that is not an id */
};

/* TaskStart, manager to proplet. Strings are NUL-terminated; what was absent or null is empty. */
struct fl_task_start {
    char id[FL_TASK_ID_MAX + 1];
    char name[FL_TASK_NAME_MAX + 1];
    char proplet_id[FL_ID_MAX + 1]; /* empty: for every proplet that reads it */
    bool broadcast;                 /* for every proplet, whatever proplet_id says */
    /*
     * "inputs", numbers or strings without blanks, one blank between two: the arguments of the
     * exported function "name", or the last ones of a command, in a task of no round.
     */
    char inputs[FL_INPUTS_MAX + 1];
    struct fl_args cli_args; /* strings without NUL, in a task of no round; numbers as text */
    bool daemon;             /* it runs until it is stopped, in a task of no round */
    char image_url[FL_IMAGE_URL_MAX + 1];
    /*
     * From "image_sha256", else from an image_url "fl/images/{sha256}". Both, but different, is
     * FL_MESSAGE_BAD_FIELD.
     */
    bool has_image_sha256;
    uint8_t image_sha256[FL_SHA256_SIZE];
    /*
     * From "fl", which says of a task of a round what it is about: the digest of the model's
     * document. The rest of "fl" is checked and not kept: "round_id" and "model_uri" must be those
     * of "env" (else FL_MESSAGE_BAD_FIELD), where the module looks, and where "format" and
     * "hyperparams" are as well; "deadline" is for those who have a clock.
     */
    bool has_model_sha256;
    uint8_t model_sha256[FL_SHA256_SIZE];
    /*
     * "file", the image itself in base64. `has_file` when it was there and not empty;
     * `file_status` is what the stream given to fl_decode_task_start said, and
     * FL_STREAM_SINK_FAILED when none was given.
     */
    bool has_file;
    enum fl_stream_status file_status;
    uint32_t file_size_bytes; /* decoded */
    /*
     * A field that asks for something this proplet cannot do ("encrypted", "latent"; and
     * "cli_args" and "daemon" without FL_ARGS_SUPPORTED), or NULL. False, null and empty values ask
     * for nothing.
     */
    const char *unsupported;
    struct fl_env env; /* values must be strings without NUL */
    /* "image_signatures"; more than FL_SIGNATURES_MAX is FL_MESSAGE_BAD_FIELD. */
    struct fl_signatures image_signatures;
};

/* TaskStop, manager to proplet. */
struct fl_task_stop {
    char id[FL_TASK_ID_MAX + 1];
    char proplet_id[FL_ID_MAX + 1]; /* empty: whoever runs it */
};

/* UpdateAck, coordinator to proplet. */
struct fl_update_ack {
    char round_id[FL_ID_MAX + 1];
    char proplet_id[FL_ID_MAX + 1];
    bool accepted;                  /* "status" is "accepted"; else it is "refused" */
    char reason[FL_REASON_MAX + 1]; /* code, empty when accepted */
    char detail[FL_DETAIL_MAX + 1]; /* for people */
    uint8_t sha256[FL_SHA256_SIZE]; /* of the update's bytes */
};

/* RoundComplete, coordinator to anyone. Only what tells a proplet that the round is over. */
struct fl_round_complete {
    char round_id[FL_ID_MAX + 1];
    char status[FL_REASON_MAX + 1]; /* complete, timeout, failed; empty from others' coordinators */
};

/*
 * An image that comes as base64 chunks from Propeller's registry. The chunks must come in order;
 * one that was there already is skipped, a gap ends it.
 */
struct fl_image_chunks {
    const char *app_name;     /* the image asked for; chunks of others are skipped */
    struct fl_stream *stream; /* begun by the caller, ended by it once `complete` */
    uint32_t next;            /* index of the chunk that must come */
    uint32_t total;           /* 0 until the first chunk said it */
    bool failed;              /* a gap, totals that differ, bad base64, or the stream refused */
    bool complete;            /* all chunks are in the stream */
};

enum fl_message_kind {
    FL_MESSAGE_TASK_START,
    FL_MESSAGE_TASK_STOP,
    FL_MESSAGE_UPDATE_ACK,
    FL_MESSAGE_ROUND_COMPLETE,
    FL_MESSAGE_IMAGE_CHUNK,
};

/* A chunk's own fields, while it is read. */
struct fl_chunk_header {
    char app_name[FL_IMAGE_URL_MAX + 1];
    uint32_t index;
    uint32_t total;
};

/* A task's "fl", while it is read. */
struct fl_task_spec {
    char round_id[FL_ID_MAX + 1];
    char model_uri[FL_MODEL_URI_MAX + 1];
    char format[FL_FORMAT_MAX + 1];
    uint8_t model_sha256[FL_SHA256_SIZE];
};

/* What is known of the fields of the object around "fl", while that is read. */
struct fl_message_outer {
    const struct fl_field *fields;
    void *target;
    uint32_t seen;
    uint32_t filled;
};

/* All private; it is here so that the caller can place it. */
struct fl_message_decoder {
    struct fl_json json;
    enum fl_message_kind kind;
    enum fl_message_status status;
    uint8_t depth;                     /* of the keys: 1, and 2 inside "fl" */
    const struct fl_field *fields;     /* the kind's table, or that of "fl" */
    const struct fl_field *spec;       /* the field under way; NULL for one that is skipped */
    const char *field;                 /* the one at fault */
    void *target;                      /* the message, or `task_spec` */
    uint32_t seen;                     /* one bit a field: it was there */
    uint32_t filled;                   /* one bit a field: it was there, whole and not null */
    size_t cursor;                     /* into the string under way */
    char text[FL_SHA256_HEX_SIZE + 1]; /* a short string under way */
    struct fl_base64 base64;
    struct fl_stream *stream; /* where base64 goes; NULL: it is only measured */
    struct fl_image_chunks *chunks;
    struct fl_message_outer outer;
    union { /* of one kind of message each */
        struct fl_chunk_header chunk;
        struct fl_task_spec task_spec;
    };
};

/*
 * Start decoding a message of a kind. The message is cleared first and is only of use once
 * fl_message_end() returned FL_MESSAGE_OK, except that of a refused TaskStart `id` and
 * `proplet_id` may be read: each is either empty or what the message said, and valid.
 *
 * `file` may be NULL: then a "file" is only measured. It must have been begun with
 * FL_STREAM_TOTAL_UNKNOWN; the decoder writes to it and ends it.
 */
void fl_decode_task_start(struct fl_message_decoder *decoder, struct fl_task_start *task,
                          struct fl_stream *file);
void fl_decode_task_stop(struct fl_message_decoder *decoder, struct fl_task_stop *stop);
void fl_decode_update_ack(struct fl_message_decoder *decoder, struct fl_update_ack *ack);
void fl_decode_round_complete(struct fl_message_decoder *decoder, struct fl_round_complete *round);

/*
 * One chunk. Its "app_name" and "chunk_idx" must stand before its "data" (Propeller sends them so),
 * because the data is not kept until they come. `chunks` outlives the decoder and is not cleared.
 */
void fl_decode_image_chunk(struct fl_message_decoder *decoder, struct fl_image_chunks *chunks);

/* Takes the next `size` bytes. A refusal stays: it is returned again by every later call. */
enum fl_message_status fl_message_feed(struct fl_message_decoder *decoder, const char *bytes,
                                       size_t size);

/* The message has ended: checks that it is whole and says all it must. */
enum fl_message_status fl_message_end(struct fl_message_decoder *decoder);

/* The field at fault after a refusal; "" when it is the whole document. */
const char *fl_message_field(const struct fl_message_decoder *decoder);

/* The code of a status, as it travels. "ok" for FL_MESSAGE_OK. */
const char *fl_message_word(enum fl_message_status status);

/*
 * What a proplet says of itself when it joins. All that is below `name_space` becomes "metadata",
 * as text; that it listens on a start topic of its own is added. NULL members are left out.
 */
struct fl_discovery {
    const char *proplet_id;
    const char *name_space;  /* "namespace" */
    const char *description; /* for people */
    const char *board;       /* "mps2_an385" */
    const char *os;          /* "zephyr" */
    const char *arch;        /* "arm" */
    const char *runtime;     /* "wamr" */
    const char *version;     /* of the firmware */
    uint64_t memory_bytes;   /* RAM */
};

/* How a task ended. */
struct fl_result {
    const char *task_id;
    const char *proplet_id;
    const char *results; /* bytes of the module's output, or NULL for null */
    size_t results_size;
    const char *error; /* NULL for null: it went well */
};

/*
 * The encoders write one JSON document into `out`, which holds `capacity` >= 1 bytes, and return
 * its size without a NUL. A return >= capacity means that it did not fit: `out` is of no use, and
 * the return plus one is the capacity needed.
 */
size_t fl_encode_discovery(char *out, size_t capacity, const struct fl_discovery *discovery);

/* `alive` true: the heartbeat; false: the last will, and what is said before a clean goodbye. */
size_t fl_encode_alive(char *out, size_t capacity, const char *proplet_id, const char *name_space,
                       bool alive);

size_t fl_encode_result(char *out, size_t capacity, const struct fl_result *result);

/* Asks Propeller's registry for an image. */
size_t fl_encode_image_request(char *out, size_t capacity, const char *app_name);

#endif
