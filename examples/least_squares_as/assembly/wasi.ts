// The way in and out of a module: environment, files, standard output, standard error.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, size: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(list: usize, bytes: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "path_open")
declare function path_open(
  dir: i32, lookup: i32, path: usize, size: usize,
  flags: i32, rights: i64, inherited: i64, fdFlags: i32, out: usize
): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, iovs: usize, count: usize, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, iovs: usize, count: usize, out: usize): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(status: i32): void;

const FOLDER = 3; // the first file descriptor after standard error is /fl
const RIGHT_TO_READ: i64 = 2;
const iov = memory.data(8);
const result = memory.data(8);

function write(fd: i32, text: string): void {
  const bytes = String.UTF8.encode(text);
  let at = changetype<usize>(bytes);
  let left = <usize>bytes.byteLength;
  while (left > 0) {
    store<u32>(iov, <u32>at);
    store<u32>(iov, <u32>left, 4);
    if (fd_write(fd, iov, 1, result) != 0) proc_exit(1);
    at += load<u32>(result);
    left -= load<u32>(result);
  }
}

/** Ends the run: status 1, and this line on standard error. */
export function fail(what: string): void {
  write(2, what + "\n");
  proc_exit(1);
}

/** What AssemblyScript calls where it would trap, such as at an index out of range. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message ? message : "aborted";
  fail(what + " (" + (file ? file : "?") + ":" + line.toString() + ")");
}

/** The update, whole. */
export function output(text: string): void {
  write(1, text);
}

/** All variables of the environment. */
export function environment(): Map<string, string> {
  const found = new Map<string, string>();
  environ_sizes_get(result, result + 4);
  const count = load<u32>(result);
  const list = new ArrayBuffer(<i32>(4 * count));
  const bytes = new ArrayBuffer(<i32>load<u32>(result, 4));
  environ_get(changetype<usize>(list), changetype<usize>(bytes));
  for (let i: u32 = 0; i < count; i++) {
    const at = <usize>load<u32>(changetype<usize>(list) + 4 * i);
    let size: usize = 0;
    while (load<u8>(at + size) != 0) size++;
    const text = String.UTF8.decodeUnsafe(at, size);
    const equals = text.indexOf("=");
    found.set(text.substring(0, equals), text.substring(equals + 1));
  }
  return found;
}

/** The bytes of the file /fl/NAME. */
export function file(name: string): Uint8Array {
  const path = String.UTF8.encode(name);
  const opened = path_open(
    FOLDER, 0, changetype<usize>(path), path.byteLength, 0, RIGHT_TO_READ, 0, 0, result
  );
  if (opened != 0) fail(name + ": cannot be opened, errno " + opened.toString());
  const fd = load<i32>(result);
  let bytes = new Uint8Array(4096);
  let size = 0;
  while (true) {
    if (size == bytes.length) {
      const larger = new Uint8Array(2 * size);
      larger.set(bytes);
      bytes = larger;
    }
    store<u32>(iov, <u32>(bytes.dataStart + size));
    store<u32>(iov, <u32>(bytes.length - size), 4);
    const errno = fd_read(fd, iov, 1, result);
    if (errno != 0) fail(name + ": cannot be read, errno " + errno.toString());
    if (load<u32>(result) == 0) return bytes.subarray(0, size);
    size += load<u32>(result);
  }
}
