"""What NVIDIA's own client (nvidia-ml-py) reads from the library that is loaded as libnvidia-ml.so.1, as JSON."""

import json

from pynvml import *

nvmlInit()
device = nvmlDeviceGetHandleByIndex(0)
memory = nvmlDeviceGetMemoryInfo(device, version=nvmlMemory_v2)
rates = nvmlDeviceGetUtilizationRates(device)
field = nvmlDeviceGetFieldValues(device, [NVML_FI_DEV_POWER_INSTANT])[0]
_, samples = nvmlDeviceGetSamples(device, NVML_TOTAL_POWER_SAMPLES, 0)
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
            "power_samples": [s.sampleValue.uiVal for s in samples],
        }
    )
)
