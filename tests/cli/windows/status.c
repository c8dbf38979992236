/* status COMMAND ARGUMENT...: runs the command, and ends stderr with a line that
 * has its exit status. Wine may kill a process that takes long to end on a busy
 * machine, and the status that Unix sees has only eight bits. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

int main(void)
{
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION process;
    DWORD status;
    char *line = GetCommandLineA();
    line = *line == '"' ? strchr(line + 1, '"') + 1 : strchr(line, ' ');
    if (!CreateProcessA(NULL, line + 1, NULL, NULL, TRUE, 0, NULL, NULL, &startup, &process)) {
        fprintf(stderr, "CreateProcess: %lu\n", GetLastError());
        return 1;
    }
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &status);
    fprintf(stderr, "status %ld\n", (long)status);
    return 0;
}
