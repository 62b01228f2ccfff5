/*
 * The functions a client module may import, all from "wasi_snapshot_preview1". The one list for
 * the three who need it: the client declares them from it, the firmware registers its own
 * implementations from it, the host reads it as text and refuses a module that imports more.
 *
 *     FL_IMPORT(name, "signature", C result, (C parameters))
 *
 * The includer defines FL_IMPORT first; it is undefined again at the end. One entry a line, or the
 * signature on the first line: the host matches lines. Signatures are in WAMR's letters, i = i32
 * and I = i64; addresses in the module's memory are plain numbers, checked by who implements the
 * function. A result is a WASI errno.
 *
 * There is no clock and no random source: a module's output depends on its inputs alone.
 */
#ifndef FL_IMPORT
#error "define FL_IMPORT(name, signature, result, parameters) before including fl_imports.h"
#endif

/* What the SDK itself uses. fd_pread is the one way in, fd_write the one way out. */
FL_IMPORT(environ_sizes_get, "(ii)i", uint32_t, (uint32_t count_out, uint32_t size_out))
FL_IMPORT(environ_get, "(ii)i", uint32_t, (uint32_t list, uint32_t bytes))
FL_IMPORT(fd_prestat_get, "(ii)i", uint32_t, (uint32_t fd, uint32_t prestat_out))
FL_IMPORT(fd_prestat_dir_name, "(iii)i", uint32_t, (uint32_t fd, uint32_t path, uint32_t path_size))
FL_IMPORT(path_open, "(iiiiiIIii)i", uint32_t,
          (uint32_t dir_fd, uint32_t lookup_flags, uint32_t path, uint32_t path_size,
           uint32_t open_flags, uint64_t rights, uint64_t inherited_rights, uint32_t fd_flags,
           uint32_t fd_out))
FL_IMPORT(fd_pread, "(iiiIi)i", uint32_t,
          (uint32_t fd, uint32_t iovs, uint32_t iov_count, uint64_t offset, uint32_t read_out))
FL_IMPORT(fd_write, "(iiii)i", uint32_t,
          (uint32_t fd, uint32_t iovs, uint32_t iov_count, uint32_t written_out))
FL_IMPORT(proc_exit, "(i)", void, (uint32_t status))

/* What wasi-libc (C, C++, Rust) links in for an ordinary main, getenv, printf, fopen and fread. */
FL_IMPORT(args_sizes_get, "(ii)i", uint32_t, (uint32_t count_out, uint32_t size_out))
FL_IMPORT(args_get, "(ii)i", uint32_t, (uint32_t list, uint32_t bytes))
FL_IMPORT(fd_close, "(i)i", uint32_t, (uint32_t fd))
FL_IMPORT(fd_read, "(iiii)i", uint32_t,
          (uint32_t fd, uint32_t iovs, uint32_t iov_count, uint32_t read_out))
FL_IMPORT(fd_seek, "(iIii)i", uint32_t,
          (uint32_t fd, uint64_t offset, uint32_t whence, uint32_t position_out))
FL_IMPORT(fd_tell, "(ii)i", uint32_t, (uint32_t fd, uint32_t position_out))
FL_IMPORT(fd_fdstat_get, "(ii)i", uint32_t, (uint32_t fd, uint32_t fdstat_out))
FL_IMPORT(fd_fdstat_set_flags, "(ii)i", uint32_t, (uint32_t fd, uint32_t flags))
FL_IMPORT(fd_filestat_get, "(ii)i", uint32_t, (uint32_t fd, uint32_t filestat_out))

#undef FL_IMPORT
