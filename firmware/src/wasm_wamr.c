#include "wasm_run.h"

#include "image_store.h"
#include "image_trust.h"
#include "wasm_call.h"
#include "wasm_stop.h"
#include "wasm_wasi.h"

#include "fl_text.h"
#include "fl_wasm.h"

#include <errno.h>
#include <string.h>
#include <wamr_memory_bound.h>
#include <wasm_export.h>
#include <zephyr/devicetree.h>
#include <zephyr/kernel.h>
#include <zephyr/linker/devicetree_regions.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(fl_wasm, CONFIG_FL_LOG_LEVEL);

BUILD_ASSERT(CONFIG_FL_WASM_STACK_BYTES < CONFIG_FL_WASM_POOL_BYTES / 2,
             "FL_WASM_STACK_BYTES leaves a module no memory in FL_WASM_POOL_BYTES");

#define ERROR_BYTES 128

/* WAMR's words for what it tells in words only. */
#define WAMR_TOO_MANY_INSTRUCTIONS "instruction limit exceeded"
#define WAMR_EXCEPTION_PREFIX "Exception: "
#define WAMR_OUT_OF_MEMORY "memory" /* all its "allocate ... memory failed" */

#define START_FUNCTION "_start"
#define INITIALIZE_FUNCTION "_initialize" /* of a reactor: called before anything else */
/* Called in a task of no round where no function has its name: the first that there is. */
static const char *const fallbacks[] = {START_FUNCTION, "main", "run"};
/* What WAMR would call by itself while it instantiates. */
static const char *const called_early[] = {"__post_instantiate", "__wasm_call_ctors"};

/* A board whose RAM is in pieces may give it one of its own. */
#if DT_HAS_CHOSEN(fl_pool)
#define POOL_PLACE Z_GENERIC_SECTION(LINKER_DT_NODE_REGION_NAME(DT_CHOSEN(fl_pool)))
#else
#define POOL_PLACE
#endif
static uint64_t pool[CONFIG_FL_WASM_POOL_BYTES / sizeof(uint64_t)] POOL_PLACE;

/* One run, taken apart in the order it was put together. */
static struct run {
    const struct wasm_job *job;
    struct wasm_outcome *outcome;
    struct fl_wasi wasi;
    uint8_t *image; /* WAMR writes into it */
    uint32_t image_size;
    wasm_module_t module;
    wasm_module_inst_t instance;
    wasm_exec_env_t env;
    struct fl_command command; /* what its arguments are made of */
    bool grow_refused;         /* the module asked for more memory than there is */
} run;

char *wasm_run_scratch(size_t *size_bytes)
{
    *size_bytes = sizeof(pool);
    return (char *)pool;
}

/* ends */

static bool ended(enum fl_run_end end, const char *detail)
{
    run.outcome->end = end;
    fl_text_excerpt(run.outcome->detail, sizeof(run.outcome->detail), detail);
    return false;
}

/* "head tail", of which the tail may be of any length and is kept in part. */
static bool ended_with(enum fl_run_end end, const char *head, const char *tail)
{
    char detail[ERROR_BYTES];
    struct fl_text text;

    fl_text_begin(&text, detail, sizeof(detail));
    fl_text_put(&text, head);
    fl_text_excerpt(detail + text.size, text.capacity - text.size, tail);
    return ended(end, detail);
}

/* WAMR does not load or instantiate it, for the reason in `error`. */
static bool ended_by_loader(const char *error)
{
    return ended(strstr(error, WAMR_OUT_OF_MEMORY) != NULL && strstr(error, "alloc") != NULL
                     ? FL_RUN_MEMORY
                     : FL_RUN_CONTRACT,
                 error);
}

/* loading */

static void on_log(void *user, const char *line, size_t size, bool last)
{
    ARG_UNUSED(user);
    ARG_UNUSED(size);
    LOG_INF("module: %s%s", line, last ? "" : " ...");
}

static void on_grow_refused(uint32_t inc_page_count, uint64_t current_memory_size,
                            uint32_t memory_index, enlarge_memory_error_reason_t reason,
                            wasm_module_inst_t instance, wasm_exec_env_t env, void *user)
{
    ARG_UNUSED(inc_page_count);
    ARG_UNUSED(current_memory_size);
    ARG_UNUSED(memory_index);
    ARG_UNUSED(reason);
    ARG_UNUSED(instance);
    ARG_UNUSED(env);
    ARG_UNUSED(user);
    run.grow_refused = true;
}

static bool start_runtime(void)
{
    RuntimeInitArgs args = {.mem_alloc_type = Alloc_With_Pool};

    args.mem_alloc_option.pool.heap_buf = pool;
    args.mem_alloc_option.pool.heap_size = sizeof(pool);
    if (!wasm_runtime_full_init(&args)) {
        return ended(FL_RUN_FAILED, "the interpreter does not start");
    }
    wasm_runtime_set_log_level(WASM_LOG_LEVEL_FATAL); /* what it has to say comes back as errors */
    wasm_runtime_set_enlarge_mem_error_callback(on_grow_refused, NULL);
    return true;
}

static bool load_image(void)
{
    int status;

    run.image_size = image_store_size();
    status = image_store_load(&run.image);
    if (status != 0) {
        return ended(FL_RUN_FAILED, status == -ENOENT    ? "there is no image"
                                    : status == -EBADMSG ? "the kept image has changed"
                                                         : "the kept image cannot be read");
    }
    return true;
}

/* Whether the module may run at all: before anything else looks at it. */
static bool check_signature(void)
{
    switch (image_trust_judge(run.image, run.image_size, run.job->signatures)) {
    case FL_TRUST_OK:
        return true;
    case FL_TRUST_UNSIGNED:
        return ended(FL_RUN_UNSIGNED, "this proplet runs signed modules only");
    case FL_TRUST_STRANGER:
        return ended(FL_RUN_UNTRUSTED, "none is of a key that this proplet trusts");
    default:
        return ended(FL_RUN_UNTRUSTED, "that of a trusted key is not of this module");
    }
}

/* A module that imports more than the contract allows would fail only when it calls it. */
static bool check_imports(void)
{
    int32_t count = wasm_runtime_get_import_count(run.module);

    for (int32_t i = 0; i < count; i++) {
        wasm_import_t import;

        wasm_runtime_get_import_type(run.module, i, &import);
        if (import.kind != WASM_IMPORT_EXPORT_KIND_FUNC || !import.linked ||
            strcmp(import.module_name, WASM_WASI_MODULE) != 0 ||
            (run.job->command == NULL && strcmp(import.name, WASM_WASI_SLEEP) == 0)) {
            LOG_ERR("module: it imports %s.%s", import.module_name, import.name);
            return ended_with(FL_RUN_CONTRACT,
                              "an import that is not in the contract: ", import.name);
        }
    }
    return true;
}

/* Whether nothing of the module runs before its limits hold, and then only a function that fits. */
static bool check_exports(void)
{
    int32_t count = wasm_runtime_get_export_count(run.module);

    for (int32_t i = 0; i < count; i++) {
        wasm_export_t export;

        wasm_runtime_get_export_type(run.module, i, &export);
        if (export.kind != WASM_IMPORT_EXPORT_KIND_FUNC) {
            continue;
        }
        for (size_t early = 0; early < ARRAY_SIZE(called_early); early++) {
            if (strcmp(export.name, called_early[early]) == 0) {
                return ended_with(FL_RUN_CONTRACT,
                                  "an export that would run before _start: ", export.name);
            }
        }
        if (strcmp(export.name, START_FUNCTION) == 0 &&
            (wasm_func_type_get_param_count(export.u.func_type) != 0 ||
             wasm_func_type_get_result_count(export.u.func_type) != 0)) {
            return ended(FL_RUN_CONTRACT, "its _start takes or returns values");
        }
    }
    return true;
}

static bool is_daemon(void)
{
    return FL_ARGS_SUPPORTED && run.job->command != NULL && run.job->command->daemon;
}

static bool load(void)
{
    char error[ERROR_BYTES] = "";

    if (fl_wasm_has_start_section(run.image, run.image_size)) {
        return ended(FL_RUN_CONTRACT, "a start section, which would run before _start");
    }
    run.module = wasm_runtime_load(run.image, run.image_size, error, sizeof(error));
    if (run.module == NULL) {
        return ended_by_loader(error);
    }
    if (!check_imports() || !check_exports()) {
        return false;
    }
    run.instance =
        wasm_runtime_instantiate(run.module, CONFIG_FL_WASM_STACK_BYTES, 0, error, sizeof(error));
    if (run.instance == NULL) {
        return ended_by_loader(error);
    }
    wamr_bound_memory(run.instance);
    run.env = wasm_runtime_create_exec_env(run.instance, CONFIG_FL_WASM_STACK_BYTES);
    if (run.env == NULL) {
        return ended(FL_RUN_MEMORY, "there is no room for the module's stack");
    }
    wasm_runtime_set_user_data(run.env, &run.wasi);
    if (!is_daemon() || IS_ENABLED(CONFIG_ARCH_POSIX)) { /* there nothing else stops a loop */
        wasm_runtime_set_instruction_count_limit(run.env, CONFIG_FL_WASM_INSTRUCTIONS_MAX);
    }
    return true;
}

/* running */

/* Of instructions, or of bytes: the end says of which. */
static bool ended_by_limit(enum fl_run_end end, uint32_t limit)
{
    char detail[24];
    struct fl_text text;

    fl_text_begin(&text, detail, sizeof(detail));
    fl_text_put(&text, "more than ");
    fl_text_put_u64(&text, limit);
    return ended(end, detail);
}

static bool ended_by_exception(const char *exception)
{
    if (strncmp(exception, WAMR_EXCEPTION_PREFIX, strlen(WAMR_EXCEPTION_PREFIX)) == 0) {
        exception += strlen(WAMR_EXCEPTION_PREFIX);
    }
    if (strcmp(exception, WAMR_TOO_MANY_INSTRUCTIONS) == 0) {
        return ended_by_limit(FL_RUN_INSTRUCTIONS, CONFIG_FL_WASM_INSTRUCTIONS_MAX);
    }
    if (run.grow_refused) {
        return ended(FL_RUN_MEMORY, "the module asked for more memory than there is");
    }
    return ended(FL_RUN_TRAP, exception);
}

static bool ended_by_exit(uint32_t status, const char *last_line)
{
    char head[24];
    struct fl_text text;

    fl_text_begin(&text, head, sizeof(head));
    fl_text_put(&text, "status ");
    fl_text_put_u64(&text, status);
    fl_text_put(&text, last_line[0] != '\0' ? ": " : "");
    return ended_with(FL_RUN_EXIT, head, last_line);
}

/* WASI's own ends reach WAMR as exceptions, and so they are looked at first. */
static bool judge(bool returned, bool was_stopped)
{
    if (run.wasi.end == FL_WASI_OUTPUT_LIMIT) {
        return ended_by_limit(FL_RUN_OUTPUT, CONFIG_FL_OUTPUT_BYTES_MAX);
    }
    if (returned || (run.wasi.end == FL_WASI_EXITED && run.wasi.exit_status == 0)) {
        fl_sha256_of(run.job->output, run.wasi.output_size_bytes, run.outcome->output_sha256);
        run.outcome->output_size_bytes = run.wasi.output_size_bytes;
        return ended(FL_RUN_OK, "");
    }
    if (run.wasi.end == FL_WASI_EXITED && run.grow_refused) {
        return ended(FL_RUN_MEMORY, "the module asked for more memory than there is");
    }
    if (run.wasi.end == FL_WASI_EXITED) {
        return ended_by_exit(run.wasi.exit_status, run.wasi.last_line);
    }
    if (was_stopped) {
        run.outcome->output_size_bytes = run.wasi.output_size_bytes;
        return ended(FL_RUN_STOPPED, "terminated");
    }
    return ended_by_exception(wasm_runtime_get_exception(run.instance));
}

/* The function to call and its name, or NULL. */
static wasm_function_inst_t find_function(const char **name)
{
    const struct fl_command *command = run.job->command;
    wasm_function_inst_t found;

    *name = command == NULL ? START_FUNCTION : command->function;
    found = wasm_runtime_lookup_function(run.instance, *name);
    if (command == NULL || command->nothing_else) {
        return found;
    }
    for (size_t i = 0; found == NULL && i < ARRAY_SIZE(fallbacks); i++) {
        *name = fallbacks[i];
        found = wasm_runtime_lookup_function(run.instance, *name);
    }
    return found;
}

static bool initialize(void)
{
    wasm_function_inst_t function = wasm_runtime_lookup_function(run.instance, INITIALIZE_FUNCTION);

    return function == NULL || wasm_func_get_param_count(function, run.instance) != 0 ||
           wasm_runtime_call_wasm(run.env, function, 0, NULL);
}

/* What a function returned takes the place of what it wrote. */
static void put_results(const struct wasm_call *call)
{
    struct fl_text text;

    if (call->result_count == 0) {
        return;
    }
    fl_text_begin(&text, (char *)run.job->output, run.job->output_capacity_bytes);
    wasm_call_results(call, &text);
    if (fl_text_ok(&text)) {
        run.wasi.output_size_bytes = (uint32_t)text.size;
    } else {
        run.wasi.end = FL_WASI_OUTPUT_LIMIT;
    }
}

/*
 * Inputs are a function's parameters, and the last of a command's arguments. A command that is
 * given none finds none at all, not even its name: so it is where the client contract holds.
 */
static void give_arguments(struct wasm_call *call, bool is_command)
{
    run.command = *run.job->command;
    if (!is_command || !FL_ARGS_SUPPORTED) {
        call->inputs = run.command.inputs;
        run.command.inputs = "";
    }
    if (!is_command || !run.command.plain) {
        run.wasi.config.command = &run.command;
    }
}

static bool call_function(void)
{
    const char *name;
    struct wasm_call call = {
        .instance = run.instance, .env = run.env, .function = find_function(&name), .inputs = ""};
    bool is_command = strcmp(name, START_FUNCTION) == 0;
    const char *misfit;
    bool returned = false;
    bool was_stopped;

    if (call.function == NULL) {
        if (run.job->command != NULL && run.job->command->nothing_else) {
            return ended_with(FL_RUN_CONTRACT, "it exports no function ", name);
        }
        return ended(FL_RUN_CONTRACT, "it exports no _start: it is no WASI command");
    }
    if (run.job->command != NULL) {
        give_arguments(&call, is_command);
    }
    misfit = wasm_call_prepare(&call);
    if (misfit != NULL) {
        return ended(FL_RUN_CONTRACT, misfit);
    }
    was_stopped = wasm_stop_expose(run.instance);
    if (!was_stopped) {
        returned = (is_command || initialize()) && wasm_call_make(&call);
    }
    was_stopped = wasm_stop_expose(NULL);
    fl_wasi_finish(&run.wasi);
    if (returned) {
        put_results(&call);
    }
    return judge(returned, was_stopped);
}

static void take_apart(void)
{
    mem_alloc_info_t memory;

    if (wasm_runtime_get_mem_alloc_info(&memory)) {
        LOG_INF("pool: at most %u of %u bytes were in use", memory.highmark_size,
                memory.total_size);
    }
    if (run.env != NULL) {
        wasm_runtime_destroy_exec_env(run.env);
    }
    if (run.instance != NULL) {
        wasm_runtime_deinstantiate(run.instance);
    }
    if (run.module != NULL) {
        wasm_runtime_unload(run.module);
    }
    wasm_runtime_destroy();
}

void wasm_run(const struct wasm_job *job, struct wasm_outcome *outcome)
{
    struct fl_wasi_config config = {.env = job->env,
                                    .file_count = job->file_count,
                                    .output = job->output,
                                    .output_capacity_bytes = job->output_capacity_bytes,
                                    .endless_output = job->command != NULL && job->command->daemon,
                                    .sleep = FL_ARGS_SUPPORTED ? wasm_stop_sleep : NULL,
                                    .log = on_log};

    memset(&run, 0, sizeof(run));
    memset(outcome, 0, sizeof(*outcome));
    run.job = job;
    run.outcome = outcome;
    memcpy(config.files, job->files, sizeof(config.files));
    fl_wasi_begin(&run.wasi, &config);
    if (!start_runtime()) {
        return;
    }
    if (wasm_wasi_register()) {
        /* the outcome says how it ended */
        (void)(load_image() && check_signature() && load() && call_function());
    } else {
        (void)ended(FL_RUN_FAILED, "the imports cannot be registered");
    }
    take_apart();
}
