"""What NVIDIA's own client (nvidia-ml-py) reads from the library that is loaded as libnvidia-ml.so.1, as JSON."""

import json
import time

from pynvml import *

nvmlInit()
device = nvmlDeviceGetHandleByIndex(0)
memory = nvmlDeviceGetMemoryInfo(device, version=nvmlMemory_v2)
rates = nvmlDeviceGetUtilizationRates(device)
field = nvmlDeviceGetFieldValues(device, [NVML_FI_DEV_POWER_INSTANT])[0]
_, samples = nvmlDeviceGetSamples(device, NVML_TOTAL_POWER_SAMPLES, 0)
# Hopper's counters: 2 is SM activity, 10 DRAM bandwidth.
counters = c_nvmlGpmMetricsGet_t()
counters.version = NVML_GPM_METRICS_GET_VERSION
counters.numMetrics = 3
counters.sample1, counters.sample2 = nvmlGpmSampleAlloc(), nvmlGpmSampleAlloc()
nvmlGpmSampleGet(device, counters.sample1)
time.sleep(0.3)
nvmlGpmSampleGet(device, counters.sample2)
for place, metric in enumerate([NVML_GPM_METRIC_SM_UTIL, NVML_GPM_METRIC_DRAM_BW_UTIL, NVML_GPM_METRIC_FP64_UTIL]):
    counters.metrics[place].metricId = metric
nvmlGpmMetricsGet(counters)
told = [m.value if m.nvmlReturn == NVML_SUCCESS else None for m in counters.metrics[:3]]
nvmlGpmSampleFree(counters.sample1)
nvmlGpmSampleFree(counters.sample2)
print(
    json.dumps(
        {
            "name": nvmlDeviceGetName(device),
            "uuid": nvmlDeviceGetUUID(device),
            "memory_total": memory.total,
            "memory_used": memory.used,
            "sm": rates.gpu,
            "memory_busy": rates.memory,
            "temperature": nvmlDeviceGetTemperature(device, NVML_TEMPERATURE_GPU),
            "sm_clock": nvmlDeviceGetClockInfo(device, NVML_CLOCK_SM),
            "power_limit": nvmlDeviceGetEnforcedPowerLimit(device),
            "power_instant": field.value.uiVal,
            "energy": nvmlDeviceGetTotalEnergyConsumption(device),
            "pcie": [
                nvmlDeviceGetPcieThroughput(device, NVML_PCIE_UTIL_TX_BYTES),
                nvmlDeviceGetPcieThroughput(device, NVML_PCIE_UTIL_RX_BYTES),
            ],
            "processes": [[p.pid, p.usedGpuMemory] for p in nvmlDeviceGetComputeRunningProcesses(device)],
            "gpm_supported": nvmlGpmQueryDeviceSupport(device).isSupportedDevice,
            "counters": told,
            "power_samples": [s.sampleValue.uiVal for s in samples],
        }
    )
)
