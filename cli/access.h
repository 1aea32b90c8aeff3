/* Whether files that a user names can be read and written: asked before the work, and by rank 0 for all. */
#ifndef FR_CLI_ACCESS_H
#define FR_CLI_ACCESS_H

/* Whether a file can be read: to be asked before loading a model, which takes minutes. Returns 0, or FR_EXIT_FAILED, printed. */
int fr_cli_check_readable(const char *path);
/* Whether a file can be made or written over: to be asked before the work whose result it takes. path may be NULL: nothing will
 * be written. Returns 0, or FR_EXIT_FAILED, printed. */
int fr_cli_check_writable(const char *path);

#endif
