#include "fl_check.h"
#include "fl_message.h"
#include "fl_text.h"
#include "message_fixtures.h"

FL_SUITE(message)

/* Whatever a fixture holds, decoded. */
static struct {
    struct fl_task_start start;
    struct fl_task_stop stop;
    struct fl_update_ack ack;
    struct fl_round_complete complete;
    uint8_t image[64];
    struct fl_stream file;
    struct fl_image_chunks chunks;
} read;
static struct fl_message_decoder decoder;
static char value_text[512];

static bool is(const struct fixture *fixture, const char *message)
{
    return strcmp(fixture->message, message) == 0;
}

static void begin_file(void)
{
    static struct fl_stream_memory place = {read.image, sizeof(read.image)};
    const struct fl_stream_sink sink = {fl_stream_to_memory, &place};

    FL_CHECK_INT(fl_stream_begin(&read.file, sink, FL_STREAM_TOTAL_UNKNOWN, 64, NULL),
                 FL_STREAM_OK);
}

/* What a fixture's .expect says of `name`, or NULL. */
static const char *expected(const struct fixture *fixture, const char *name)
{
    for (const struct fixture_field *field = fixture->expect; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0) {
            return field->value;
        }
    }
    return NULL;
}

/* Starts the decoder of a fixture's message; false when it is one that is only written. */
static bool begin(const struct fixture *fixture)
{
    if (is(fixture, "task_start")) {
        begin_file();
        fl_decode_task_start(&decoder, &read.start, &read.file);
    } else if (is(fixture, "task_stop")) {
        fl_decode_task_stop(&decoder, &read.stop);
    } else if (is(fixture, "update_ack")) {
        fl_decode_update_ack(&decoder, &read.ack);
    } else if (is(fixture, "round_complete")) {
        fl_decode_round_complete(&decoder, &read.complete);
    } else if (is(fixture, "image_chunk")) {
        const char *name = expected(fixture, "app_name");

        begin_file();
        read.chunks =
            (struct fl_image_chunks){.app_name = name == NULL ? "a/b" : name, .stream = &read.file};
        fl_decode_image_chunk(&decoder, &read.chunks);
    } else {
        return false;
    }
    return true;
}

static const char *as_hex(bool there, const uint8_t *digest)
{
    value_text[0] = '\0';
    if (there) {
        fl_sha256_to_hex(digest, value_text);
    }
    return value_text;
}

static const char *as_text(uint32_t number)
{
    struct fl_text text;

    fl_text_begin(&text, value_text, sizeof(value_text));
    fl_text_put_u64(&text, number);
    return value_text;
}

/* The signature of a key, in hexadecimal; NULL when there is none. */
static const char *signature_of(const char *key_id)
{
    uint8_t wanted[FL_KEY_ID_SIZE];

    FL_CHECK(fl_key_id_from_hex(key_id, strlen(key_id), wanted));
    for (size_t i = 0; i < read.start.image_signatures.count; i++) {
        const struct fl_signature *signature = &read.start.image_signatures.list[i];

        if (memcmp(signature->key_id, wanted, sizeof(wanted)) == 0) {
            fl_sha256_to_hex(signature->bytes, value_text);
            fl_sha256_to_hex(signature->bytes + FL_SHA256_SIZE, value_text + FL_SHA256_HEX_SIZE);
            return value_text;
        }
    }
    return NULL;
}

/* A task's cli_args with a blank between two, as the host's test has them. */
static const char *joined_args(void)
{
    static char joined[FL_ARGS_CAPACITY];
    const struct fl_args *args = &read.start.cli_args;

    memcpy(joined, args->text, sizeof(joined));
    for (size_t i = 0; i + 1 < args->size; i++) {
        joined[i] = joined[i] == '\0' ? ' ' : joined[i];
    }
    return joined;
}

/* The value of a field of the message that was decoded, as text. */
static const char *field_value(const struct fixture *fixture, const char *name)
{
    const struct {
        const char *message;
        const char *name;
        const char *value;
    } strings[] = {
        {"task_start", "id", read.start.id},
        {"task_start", "name", read.start.name},
        {"task_start", "proplet_id", read.start.proplet_id},
        {"task_start", "image_url", read.start.image_url},
        {"task_start", "inputs", read.start.inputs},
        {"task_start", "cli_args", joined_args()},
        {"task_start", "daemon", read.start.daemon ? "true" : "false"},
        {"task_start", "broadcast", read.start.broadcast ? "true" : "false"},
        {"task_start", "unsupported", read.start.unsupported == NULL ? "" : read.start.unsupported},
        {"image_chunk", "app_name", read.chunks.app_name},
        {"task_stop", "id", read.stop.id},
        {"task_stop", "proplet_id", read.stop.proplet_id},
        {"update_ack", "round_id", read.ack.round_id},
        {"update_ack", "proplet_id", read.ack.proplet_id},
        {"update_ack", "status", read.ack.accepted ? "accepted" : "refused"},
        {"update_ack", "reason", read.ack.reason},
        {"update_ack", "detail", read.ack.detail},
        {"round_complete", "round_id", read.complete.round_id},
        {"round_complete", "status", read.complete.status},
    };

    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (is(fixture, strings[i].message) && strcmp(name, strings[i].name) == 0) {
            return strings[i].value;
        }
    }
    if (strncmp(name, "env.", 4) == 0) {
        return fl_env_get(&read.start.env, name + 4);
    }
    if (strncmp(name, "image_signatures.", 17) == 0) {
        return signature_of(name + 17);
    }
    if (strcmp(name, "image_sha256") == 0) {
        return as_hex(read.start.has_image_sha256, read.start.image_sha256);
    }
    if (strcmp(name, "fl.model_sha256") == 0) {
        return as_hex(read.start.has_model_sha256, read.start.model_sha256);
    }
    if (strcmp(name, "file_sha256") == 0) {
        FL_CHECK_INT(read.start.file_status, FL_STREAM_OK);
        return as_hex(read.start.has_file, read.file.digest);
    }
    if (strcmp(name, "sha256") == 0) {
        return as_hex(true, read.ack.sha256);
    }
    if (strcmp(name, "file_size_bytes") == 0) {
        return as_text(read.start.file_size_bytes);
    }
    if (strcmp(name, "data_size_bytes") == 0) {
        return as_text(read.file.offset_bytes);
    }
    if (strcmp(name, "chunk_idx") == 0) {
        return as_text(read.chunks.next - 1u);
    }
    if (strcmp(name, "total_chunks") == 0) {
        return as_text(read.chunks.total);
    }
    return NULL;
}

static void check_fixture(const struct fixture *fixture, size_t piece)
{
    enum fl_message_status status;

    if (!begin(fixture)) {
        return;
    }
    for (size_t at = 0; at < fixture->size; at += piece) {
        size_t left = fixture->size - at;

        (void)fl_message_feed(&decoder, fixture->bytes + at, left < piece ? left : piece);
    }
    status = fl_message_end(&decoder);
    if (strcmp(fl_message_word(status), fixture->reason) != 0 ||
        strcmp(fl_message_field(&decoder), fixture->field) != 0) {
        FL_CHECK_FAIL("%s, in pieces of %u: %s, field \"%s\"", fixture->name, (unsigned int)piece,
                      fl_message_word(status), fl_message_field(&decoder));
    }
    for (const struct fixture_field *field = fixture->expect; field->name != NULL; field++) {
        const char *value = field_value(fixture, field->name);

        if (value == NULL || strcmp(value, field->value) != 0) {
            FL_CHECK_FAIL("%s: %s is \"%s\", not \"%s\"", fixture->name, field->name,
                          value == NULL ? "(none)" : value, field->value);
        }
    }
}

FL_TEST(message, every_fixture_is_read_or_refused_as_it_says)
{
    static const size_t pieces[] = {1, 2, 3, 7, 64, SIZE_MAX};

    for (size_t i = 0; i < sizeof(fixtures) / sizeof(fixtures[0]); i++) {
        for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
            check_fixture(&fixtures[i], pieces[k] == SIZE_MAX ? fixtures[i].size + 1 : pieces[k]);
        }
    }
}

static size_t encode(const struct fixture *fixture, char *out, size_t capacity)
{
    const char *proplet_id = expected(fixture, "proplet_id");
    const char *name_space = expected(fixture, "namespace");

    if (is(fixture, "discovery")) {
        const struct fl_discovery discovery = {
            .proplet_id = proplet_id,
            .name_space = name_space,
            .description = expected(fixture, "metadata.description"),
            .board = expected(fixture, "metadata.board"),
            .os = expected(fixture, "metadata.os"),
            .arch = expected(fixture, "metadata.arch"),
            .version = expected(fixture, "metadata.version"),
            .runtime = expected(fixture, "metadata.runtime"),
            .memory_bytes = 4194304, /* in every fixture */
        };

        return fl_encode_discovery(out, capacity, &discovery);
    }
    if (is(fixture, "alive")) {
        return fl_encode_alive(out, capacity, proplet_id, name_space,
                               strcmp(expected(fixture, "status"), "alive") == 0);
    }
    if (is(fixture, "result")) {
        const char *results = expected(fixture, "results");
        const struct fl_result result = {
            .task_id = expected(fixture, "task_id"),
            .proplet_id = proplet_id,
            .results = results,
            .results_size = results == NULL ? 0 : strlen(results),
            .error = expected(fixture, "error"),
        };

        return fl_encode_result(out, capacity, &result);
    }
    if (is(fixture, "image_request")) {
        return fl_encode_image_request(out, capacity, expected(fixture, "app_name"));
    }
    return 0;
}

FL_TEST(message, what_is_written_is_the_fixture_byte_for_byte)
{
    static char out[512];
    unsigned int written = 0;

    for (size_t i = 0; i < sizeof(fixtures) / sizeof(fixtures[0]); i++) {
        size_t size = encode(&fixtures[i], out, sizeof(out));

        if (size == 0) {
            continue;
        }
        FL_CHECK_STRING(out, fixtures[i].bytes);
        FL_CHECK_INT(size, fixtures[i].size);
        /* One byte less than it needs: it says so. */
        FL_CHECK_INT(encode(&fixtures[i], out, size), size);
        FL_CHECK(strlen(out) < size);
        written++;
    }
    FL_CHECK_INT(written, 8);
}

static enum fl_message_status decode_start(const char *text, struct fl_stream *file)
{
    fl_decode_task_start(&decoder, &read.start, file);
    (void)fl_message_feed(&decoder, text, strlen(text));
    return fl_message_end(&decoder);
}

FL_TEST(message, what_this_proplet_cannot_do_is_named)
{
    static const char *const asks[][2] = {
        {"\"encrypted\":true", "encrypted"},
        {"\"latent\":true", "latent"},
        {"\"latent\":1", "latent"},
        {"\"encrypted\":[\"x\"]", "encrypted"},
        {"\"daemon\":false,\"encrypted\":false,\"inputs\":[],\"cli_args\":null", NULL},
        {"\"latent\":0,\"encrypted\":\"\",\"cli_args\":[]", NULL},
        {"\"daemon\":true,\"cli_args\":[\"--invoke\"]", NULL},
    };

    for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++) {
        char text[160] = "{\"id\":\"t-1\",\"image_url\":\"x\",";

        strcat(text, asks[i][0]);
        strcat(text, "}");
        FL_CHECK_INT(decode_start(text, NULL), FL_MESSAGE_OK);
        if (asks[i][1] == NULL) {
            FL_CHECK(read.start.unsupported == NULL);
        } else {
            FL_CHECK_STRING(read.start.unsupported, asks[i][1]);
        }
    }
}

FL_TEST(message, arguments_are_kept_whole_or_refused)
{
    char text[FL_ARGS_CAPACITY + 80] = "{\"id\":\"t-1\",\"image_url\":\"x\",\"cli_args\":[\"\",\"";
    size_t used = strlen(text);

    memset(text + used, 'x', FL_ARGS_CAPACITY - 2);
    strcpy(text + used + FL_ARGS_CAPACITY - 2, "\"]}");
    FL_CHECK_INT(decode_start(text, NULL), FL_MESSAGE_OK);
    FL_CHECK_INT(read.start.cli_args.count, 2);
    FL_CHECK_INT(read.start.cli_args.size, FL_ARGS_CAPACITY);
    strcpy(text + used + FL_ARGS_CAPACITY - 2, "x\"]}");
    FL_CHECK_INT(decode_start(text, NULL), FL_MESSAGE_TOO_LARGE);
    FL_CHECK_STRING(fl_message_field(&decoder), "cli_args");
}

FL_TEST(message, a_file_larger_than_its_place_is_told_and_the_rest_is_read)
{
    static const struct fl_stream_memory place = {read.image, sizeof(read.image)};
    const struct fl_stream_sink sink = {fl_stream_to_memory, (void *)(uintptr_t)&place};
    static const char text[] = "{\"file\":\"Zm9vYmFyZm9vYmFy\",\"id\":\"t-1\"}";

    FL_CHECK_INT(fl_stream_begin(&read.file, sink, FL_STREAM_TOTAL_UNKNOWN, 11, NULL),
                 FL_STREAM_OK);
    FL_CHECK_INT(decode_start(text, &read.file), FL_MESSAGE_OK);
    FL_CHECK(read.start.has_file);
    FL_CHECK_INT(read.start.file_status, FL_STREAM_TOO_LARGE);
    FL_CHECK_INT(read.start.file_size_bytes, 12);
    FL_CHECK_STRING(read.start.id, "t-1");
    /* Without a place it is only measured. */
    FL_CHECK_INT(decode_start(text, NULL), FL_MESSAGE_OK);
    FL_CHECK_INT(read.start.file_status, FL_STREAM_SINK_FAILED);
    FL_CHECK_INT(read.start.file_size_bytes, 12);
}

FL_TEST(message, a_refused_task_keeps_only_whole_ids)
{
    FL_CHECK_INT(decode_start("{\"id\":\"t-1\",\"proplet_id\":\"a b\"}", NULL), FL_MESSAGE_BAD_ID);
    FL_CHECK_STRING(read.start.id, "t-1");
    FL_CHECK_STRING(read.start.proplet_id, "");
    FL_CHECK_INT(decode_start("{\"proplet_id\":\"p\",\"id\":\"t-", NULL), FL_MESSAGE_UNDECODABLE);
    FL_CHECK_STRING(read.start.id, "");
    FL_CHECK_STRING(read.start.proplet_id, "p");
    FL_CHECK_INT(decode_start("{\"id\":\"t-1\",\"id\":\"t-2\"}", NULL), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_STRING(read.start.id, "t-1");
}

FL_TEST(message, a_fault_inside_fl_leaves_the_task_it_is_in)
{
    FL_CHECK_INT(decode_start("{\"id\":\"t-1\",\"fl\":{\"round_id\":\"a b\"}}", NULL),
                 FL_MESSAGE_BAD_ID);
    FL_CHECK_STRING(fl_message_field(&decoder), "fl.round_id");
    FL_CHECK_STRING(read.start.id, "t-1");
    FL_CHECK(!read.start.has_model_sha256);
    /* Its names are its own, and those around it are not its. */
    FL_CHECK_INT(decode_start("{\"id\":\"t-1\",\"image_url\":\"x\",\"fl.round_id\":1,"
                              "\"env\":{\"ROUND_ID\":\"r\",\"MODEL_URI\":\"fl/models/m\"},"
                              "\"fl\":{\"id\":2,\"round_id\":\"r\",\"env\":3,"
                              "\"model_uri\":\"fl/models/m\"},\"name\":\"n\"}",
                              NULL),
                 FL_MESSAGE_OK);
    FL_CHECK_STRING(read.start.id, "t-1");
    FL_CHECK_STRING(read.start.name, "n");
}

FL_TEST(message, words_for_people_are_kept_in_part_and_show_it)
{
    char text[400] = "{\"id\":\"t-1\",\"image_url\":\"x\",\"name\":\"";
    size_t head = strlen(text);

    for (size_t extra = 0; extra < 2; extra++) {
        size_t size = FL_TASK_NAME_MAX + extra;

        memset(text + head, 'n', size);
        memcpy(text + head + size, "\"}", 3);
        for (size_t piece = 1; piece < 100; piece += 13) {
            fl_decode_task_start(&decoder, &read.start, NULL);
            for (size_t at = 0; at < strlen(text); at += piece) {
                size_t left = strlen(text) - at;

                (void)fl_message_feed(&decoder, text + at, left < piece ? left : piece);
            }
            FL_CHECK_INT(fl_message_end(&decoder), FL_MESSAGE_OK);
            FL_CHECK_INT(strlen(read.start.name), FL_TASK_NAME_MAX);
            FL_CHECK_STRING(read.start.name + FL_TASK_NAME_MAX - 3, extra == 0 ? "nnn" : "...");
        }
    }
}

FL_TEST(message, feeding_after_a_refusal_changes_nothing)
{
    fl_decode_task_stop(&decoder, &read.stop);
    FL_CHECK_INT(fl_message_feed(&decoder, "{\"id\":7,", 8), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_INT(fl_message_feed(&decoder, "}", 1), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_INT(fl_message_end(&decoder), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_STRING(fl_message_field(&decoder), "id");
}

/* image chunks */

static uint8_t image[16];
static struct fl_stream image_stream;
static struct fl_image_chunks chunks;

static void begin_chunks(void)
{
    static struct fl_stream_memory place = {image, sizeof(image)};
    const struct fl_stream_sink sink = {fl_stream_to_memory, &place};

    FL_CHECK_INT(fl_stream_begin(&image_stream, sink, FL_STREAM_TOTAL_UNKNOWN, sizeof(image), NULL),
                 FL_STREAM_OK);
    chunks = (struct fl_image_chunks){.app_name = "app", .stream = &image_stream};
}

static enum fl_message_status chunk(const char *text)
{
    fl_decode_image_chunk(&decoder, &chunks);
    (void)fl_message_feed(&decoder, text, strlen(text));
    return fl_message_end(&decoder);
}

#define CHUNK(index, total, data)                                                                  \
    "{\"app_name\":\"app\",\"chunk_idx\":" #index ",\"total_chunks\":" #total ",\"data\":\"" data  \
    "\"}"

FL_TEST(message, chunks_in_order_make_an_image)
{
    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(0, 2, "Zm9v")), FL_MESSAGE_OK);
    FL_CHECK(!chunks.complete);
    /* Once more, and one of another image: skipped. */
    FL_CHECK_INT(chunk(CHUNK(0, 2, "Zm9v")), FL_MESSAGE_OK);
    FL_CHECK_INT(
        chunk("{\"app_name\":\"x\",\"chunk_idx\":9,\"total_chunks\":10,\"data\":\"AA==\"}"),
        FL_MESSAGE_OK);
    FL_CHECK_INT(chunks.next, 1);
    /* The total may stand behind the data. */
    FL_CHECK_INT(
        chunk("{\"app_name\":\"app\",\"chunk_idx\":1,\"data\":\"YmFy\",\"total_chunks\":2}"),
        FL_MESSAGE_OK);
    FL_CHECK(chunks.complete);
    FL_CHECK(!chunks.failed);
    FL_CHECK_INT(fl_stream_end(&image_stream), FL_STREAM_OK);
    FL_CHECK_BYTES(image, "foobar", 6);
    FL_CHECK_INT(chunk(CHUNK(1, 2, "YmFy")), FL_MESSAGE_OK); /* late: skipped */
    FL_CHECK(chunks.complete && !chunks.failed);
}

FL_TEST(message, what_ends_an_image_in_chunks)
{
    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(1, 3, "Zm9v")), FL_MESSAGE_OK); /* a gap */
    FL_CHECK(chunks.failed);
    FL_CHECK_INT(image_stream.offset_bytes, 0);

    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(0, 3, "Zm9v")), FL_MESSAGE_OK);
    FL_CHECK_INT(chunk(CHUNK(1, 2, "Zm9v")), FL_MESSAGE_BAD_FIELD); /* another total */
    FL_CHECK_STRING(fl_message_field(&decoder), "total_chunks");
    FL_CHECK(chunks.failed);

    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(0, 2, "Zm9vZm9v*")), FL_MESSAGE_BAD_FIELD); /* half of it is stored */
    FL_CHECK(chunks.failed);

    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(0, 2, "Zm9vYmFyZm9vYmFyZm9vYmFy")), FL_MESSAGE_OK);
    FL_CHECK(chunks.failed);
    FL_CHECK_INT(image_stream.status, FL_STREAM_TOO_LARGE);

    begin_chunks();
    FL_CHECK_INT(chunk(CHUNK(0, 0, "Zm9v")), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_STRING(fl_message_field(&decoder), "chunk_idx");
    FL_CHECK(chunks.failed);
}

FL_TEST(message, a_chunk_says_whose_it_is_before_its_data)
{
    begin_chunks();
    FL_CHECK_INT(
        chunk("{\"data\":\"Zm9v\",\"app_name\":\"app\",\"chunk_idx\":0,\"total_chunks\":1}"),
        FL_MESSAGE_MISSING_FIELD);
    FL_CHECK_STRING(fl_message_field(&decoder), "app_name");
    FL_CHECK_INT(
        chunk("{\"app_name\":\"app\",\"data\":\"Zm9v\",\"chunk_idx\":0,\"total_chunks\":1}"),
        FL_MESSAGE_MISSING_FIELD);
    FL_CHECK_STRING(fl_message_field(&decoder), "chunk_idx");
    FL_CHECK(!chunks.failed); /* nothing of it was stored */
    FL_CHECK_INT(chunk(CHUNK(-1, 1, "Zm9v")), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_INT(chunk(CHUNK(0.5, 1, "Zm9v")), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_INT(chunk(CHUNK(4294967296, 1, "Zm9v")), FL_MESSAGE_BAD_FIELD);
    FL_CHECK_INT(chunk(CHUNK(0, 1, "")), FL_MESSAGE_OK); /* an empty chunk is one */
    FL_CHECK(chunks.complete);
}
