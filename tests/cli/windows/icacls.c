/* Stands in for Windows' icacls, which Wine has as an empty shell: appends its
 * command line to icacls.log beside the program. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

int main(void)
{
    char path[MAX_PATH];
    FILE *log;
    GetModuleFileNameA(NULL, path, sizeof path);
    strcpy(strrchr(path, '\\') + 1, "icacls.log");
    log = fopen(path, "ab");
    if (!log)
        return 1;
    fprintf(log, "%s\n", GetCommandLineA());
    return fclose(log);
}
