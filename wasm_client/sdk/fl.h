/* The SDK for clients: everything a client's fl_main() may use. See wasm_client/README.md. */
#ifndef FL_H
#define FL_H

#include "fl_dataset.h"
#include "fl_env.h"
#include "fl_hyper.h"
#include "fl_kernel.h"
#include "fl_layer.h"
#include "fl_large.h"
#include "fl_math.h"
#include "fl_memory.h"
#include "fl_number.h"
#include "fl_param.h"
#include "fl_platform.h"
#include "fl_random.h"
#include "fl_report.h"
#include "fl_sgd.h"
#include "fl_sink.h"
#include "fl_tensors.h"
#include "fl_update.h"

#endif
