/* A FAKE libnvidia-ml.so.1, for tests on machines without an NVIDIA driver: what it answers stands in
 * the text file /etc/fake-nvml. Only the calls that lxc-gpu makes, by the names and structures of
 * NVIDIA's nvml.h. Written for these tests; nothing of NVIDIA's is in it.
 *
 * Lines: driver VERSION / error NUMBER / hang / gpu UUID MINOR TOTAL USED UTILISATION NAME... /
 * process GPU-INDEX PID BYTES / power GPU-INDEX MILLIWATTS LIMIT / lost GPU-INDEX /
 * part GPU-INDEX UUID TOTAL USED PROFILE: a MIG instance of it / part-process PART-INDEX PID BYTES
 *
 * They are read again whenever the GPUs are counted, so that a test can change them while NVML is open.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 16
enum { OK = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

typedef struct {
    char uuid[96], name[96];
    unsigned minor, milliwatts, limit, lost, whole; /* a part: the index of its GPU, plus 1 */
    unsigned long long total, used;
    int use;
} Gpu;
typedef struct { unsigned gpu, pid; unsigned long long used; } Running;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Info;

static Gpu gpus[MOST], parts[MOST];
static Running running[MOST * MOST];
static unsigned gpu_count, part_count, running_count;
static char driver[80];

static int init(void) {
    char line[512], profile[32];
    FILE *file = fopen("/etc/fake-nvml", "r");
    if (!file)
        return DRIVER_NOT_LOADED;
    gpu_count = part_count = running_count = 0;
    memset(gpus, 0, sizeof gpus);
    memset(parts, 0, sizeof parts);
    while (fgets(line, sizeof line, file)) {
        int error;
        Gpu *gpu = &gpus[gpu_count];
        Running *process = &running[running_count];
        if (sscanf(line, "error %d", &error) == 1)
            return fclose(file), error;
        if (!strncmp(line, "hang", 4))
            for (;;)
                pause();
        sscanf(line, "driver %79s", driver);
        if (sscanf(line, "gpu %95s %u %llu %llu %d %95[^\n]", gpu->uuid, &gpu->minor, &gpu->total,
                   &gpu->used, &gpu->use, gpu->name) == 6)
            gpu_count++;
        unsigned index, milliwatts, limit;
        Gpu *part = &parts[part_count];
        if (sscanf(line, "power %u %u %u", &index, &milliwatts, &limit) == 3)
            gpus[index].milliwatts = milliwatts, gpus[index].limit = limit;
        if (sscanf(line, "lost %u", &index) == 1)
            gpus[index].lost = 1;
        if (sscanf(line, "part %u %95s %llu %llu %31s", &index, part->uuid, &part->total, &part->used,
                   profile) == 5) {
            snprintf(part->name, sizeof part->name, "%.48s MIG %.31s", gpus[index].name, profile);
            part->whole = index + 1;
            part_count++;
        }
        if (sscanf(line, "part-process %u %u %llu", &process->gpu, &process->pid, &process->used) == 3) {
            process->gpu += MOST;
            running_count++;
        }
        if (sscanf(line, "process %u %u %llu", &process->gpu, &process->pid, &process->used) == 3)
            running_count++;
    }
    fclose(file);
    return OK;
}

static int put(char *into, unsigned size, const char *text) {
    snprintf(into, size, "%s", text);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return init(); }
int nvmlInit_v2(void) { return init(); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == 9 ? "Driver Not Loaded" : code == 18 ? "Driver/library version mismatch"
         : code == 15 ? "GPU is lost" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *into, unsigned size) { return put(into, size, driver); }
int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = init();
    *count = gpu_count;
    return error;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu **gpu) {
    if (index >= gpu_count)
        return INVALID_ARGUMENT;
    *gpu = &gpus[index];
    return gpus[index].lost ? GPU_IS_LOST : OK;
}
int nvmlDeviceGetPowerUsage(Gpu *gpu, unsigned *into) {
    *into = gpu->milliwatts;
    return gpu->milliwatts ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetEnforcedPowerLimit(Gpu *gpu, unsigned *into) {
    *into = gpu->limit;
    return gpu->limit ? OK : NOT_SUPPORTED;
}
static int part_of(Gpu *gpu, unsigned place, Gpu **into) {
    for (unsigned each = 0; each < part_count; each++)
        if (parts[each].whole == (unsigned)(gpu - gpus) + 1 && place-- == 0)
            return *into = &parts[each], OK;
    return NOT_FOUND;
}
int nvmlDeviceGetMigMode(Gpu *gpu, unsigned *now, unsigned *pending) {
    Gpu *part;
    *now = *pending = part_of(gpu, 0, &part) == OK;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Gpu *gpu, unsigned *count) { (void)gpu; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(Gpu *gpu, unsigned place, Gpu **into) {
    return part_of(gpu, place, into);
}
int nvmlDeviceGetName(Gpu *gpu, char *into, unsigned size) { return put(into, size, gpu->name); }
int nvmlDeviceGetUUID(Gpu *gpu, char *into, unsigned size) { return put(into, size, gpu->uuid); }
int nvmlDeviceGetMinorNumber(Gpu *gpu, unsigned *minor) { *minor = gpu->minor; return OK; }
int nvmlDeviceGetMemoryInfo(Gpu *gpu, unsigned long long *memory) {
    memory[0] = gpu->total;
    memory[1] = gpu->total - gpu->used;
    memory[2] = gpu->used;
    return OK;
}
int nvmlDeviceGetUtilizationRates(Gpu *gpu, unsigned *rates) {
    if (gpu->use < 0)
        return NOT_SUPPORTED;
    rates[0] = rates[1] = (unsigned)gpu->use;
    return OK;
}
int nvmlDeviceGetTemperature(Gpu *gpu, unsigned sensor, unsigned *degrees) {
    (void)gpu, (void)sensor;
    *degrees = 41;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(Gpu *gpu, unsigned *count, Info *into) {
    unsigned found = 0, room = *count, index = (unsigned)(gpu->whole ? gpu - parts + MOST : gpu - gpus);
    Gpu *part;
    if (!gpu->whole && part_of(gpu, 0, &part) == OK)
        return NO_PERMISSION; /* with MIG, only root is told of the whole */
    for (unsigned each = 0; each < running_count; each++)
        if (running[each].gpu == index) {
            if (found < room && into)
                into[found] = (Info){running[each].pid, running[each].used, ~0u, ~0u};
            found++;
        }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Gpu *gpu, unsigned *count, Info *into) {
    (void)gpu, (void)into;
    *count = 0;
    return OK;
}
