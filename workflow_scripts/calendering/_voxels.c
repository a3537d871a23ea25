#include "extension.h"
EXTENSION_MODULE(_voxels)
