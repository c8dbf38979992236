/* tokens MILLISECONDS: prints its process number, the path of the token file, and
 * each new token in that file; ends with status 7, or 9 if a token is in its
 * environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

static int in_environment(const char *token)
{
    const char *variable = GetEnvironmentStringsA();
    for (; *variable; variable += strlen(variable) + 1)
        if (strstr(variable, token))
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    static char last[4096], token[4096];
    const char *path = getenv("REMEMBERIZER_TOKEN_FILE");
    ULONGLONG end;
    if (argc != 2 || !path)
        return 2;
    printf("%lu\n%s\n", GetCurrentProcessId(), path);
    end = GetTickCount64() + atoi(argv[1]);
    for (; GetTickCount64() < end; Sleep(20)) {
        FILE *file = fopen(path, "rb");
        if (!file)
            continue;
        token[fread(token, 1, sizeof token - 1, file)] = 0;
        fclose(file);
        if (in_environment(token))
            return 9;
        if (strcmp(token, last) != 0)
            puts(strcpy(last, token));
        fflush(stdout);
    }
    return 7;
}
