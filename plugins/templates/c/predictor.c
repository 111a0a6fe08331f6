// Says how likely parts are to fail: the further a metric has moved since the part was new, the sooner.
// `judge` has one asset's history and answers its outlook; put what you know of your hardware there.
#include <stdlib.h>

#include "forewright.h"

typedef exports_predict_request_t request_t;
typedef exports_predict_history_t history_t;
typedef exports_predict_column_t column_t;
typedef exports_predict_outlook_t outlook_t;
typedef exports_predict_risk_t risk_t;
typedef exports_predict_reason_t reason_t;

static const double DAY_MS = 86400000.0;
static const double MOST_MOVED = 1000.0;

// How far a metric has moved, relative to where it was; negative if nothing is known of it.
static double moved(const column_t *column, double *last) {
  double first = 0;
  bool known = false;
  for (size_t i = 0; i < column->values.len; i++) {
    double value = column->values.ptr[i];
    if (__builtin_isnan(value)) continue;
    if (!known) first = value;
    known = true;
    *last = value;
  }
  if (!known) return -1;
  double by = __builtin_fabs(*last - first) / (__builtin_fabs(first) + 1);
  return by < MOST_MOVED ? by : MOST_MOVED;
}

static outlook_t declined(const char *why) {
  outlook_t outlook = {.tag = EXPORTS_PREDICT_OUTLOOK_DECLINED};
  outlook.val.declined = text(why);
  return outlook;
}

static outlook_t judge(const request_t *request, const history_t *history) {
  const column_t *worst = NULL;
  double most = -1, value = 0;
  for (size_t i = 0; i < history->columns.len; i++) {
    const column_t *column = &history->columns.ptr[i];
    double last = 0, by = moved(column, &last);
    if (by > most) worst = column, most = by, value = last;
  }
  if (worst == NULL) return declined("nothing was measured");

  // Of parts like this one, so many fail each day.
  double rate = 0.001 + 0.01 * most;
  risk_t risk = {0};
  risk.probabilities.len = request->horizons.len;
  risk.probabilities.ptr = malloc(request->horizons.len * sizeof(double));
  for (size_t i = 0; i < request->horizons.len; i++) {
    double expected = rate * request->horizons.ptr[i] / DAY_MS;
    risk.probabilities.ptr[i] = expected > 1e9 ? 1 : expected / (1 + expected);
  }
  risk.reasons.len = 1;
  risk.reasons.ptr = malloc(sizeof(reason_t));
  *risk.reasons.ptr = (reason_t){
      .metric = worst->metric,
      .feature = text("last"),
      .value = value,
      .typical = __builtin_nan(""),
      .contribution = most * DAY_MS,
  };
  outlook_t outlook = {.tag = EXPORTS_PREDICT_OUTLOOK_RISK};
  outlook.val.risk = risk;
  return outlook;
}

bool exports_predict_predict(request_t *request, exports_predict_list_outlook_t *ret,
                             exports_predict_plugin_error_t *err) {
  (void)err;
  say(HOST_LEVEL_INFO, "judges every history it is given");
  ret->len = request->histories.len;
  ret->ptr = malloc(ret->len * sizeof(outlook_t));
  for (size_t i = 0; i < ret->len; i++) ret->ptr[i] = judge(request, &request->histories.ptr[i]);
  return true;
}
