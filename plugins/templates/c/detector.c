// Says what is unusual: samples that lie far from what a metric was before `since`.
// `look_at` has one series and appends its anomalies; put what you know of your sensors there.
#include <stdlib.h>

#include "forewright.h"

typedef exports_detect_request_t request_t;
typedef exports_detect_series_t series_t;
typedef exports_detect_anomaly_t anomaly_t;
typedef exports_detect_list_anomaly_t anomalies_t;

enum { LEAST_SAMPLES = 8, MOST_ANOMALIES = 10000 };
// Standard deviations from the mean, beyond which a sample is unusual.
static const double FAR = 4.0;

typedef struct {
  double mean, deviation;
} normal_t;

// What is normal, from the samples before `since`; false if there are too few.
static bool learn(const series_t *series, double since, normal_t *normal) {
  double sum = 0, squares = 0;
  size_t count = 0;
  for (size_t i = 0; i < series->values.len && series->times.ptr[i] < since; i++) {
    double value = series->values.ptr[i];
    if (__builtin_isnan(value)) continue;
    sum += value;
    count++;
  }
  if (count < LEAST_SAMPLES) return false;
  normal->mean = sum / count;
  for (size_t i = 0; i < series->values.len && series->times.ptr[i] < since; i++) {
    double off = series->values.ptr[i] - normal->mean;
    if (!__builtin_isnan(off)) squares += off * off;
  }
  // What never moved may still move by a rounding error.
  double least = 1e-9 * (1 + __builtin_fabs(normal->mean));
  double deviation = __builtin_sqrt(squares / count);
  normal->deviation = deviation > least ? deviation : least;
  return __builtin_isfinite(normal->mean) && __builtin_isfinite(normal->deviation);
}

static anomaly_t *append(anomalies_t *all, size_t *room) {
  if (all->len == *room) {
    *room = *room ? 2 * *room : 16;
    all->ptr = realloc(all->ptr, *room * sizeof(anomaly_t));
  }
  return &all->ptr[all->len++];
}

static void look_at(const series_t *series, double since, anomalies_t *all, size_t *room) {
  normal_t normal;
  if (!learn(series, since, &normal)) return;
  anomaly_t *open = NULL;
  for (size_t i = 0; i < series->values.len; i++) {
    if (series->times.ptr[i] < since) continue;
    double far = __builtin_fabs(series->values.ptr[i] - normal.mean) / normal.deviation;
    if (!(far > FAR)) {  // usual, or not known
      open = NULL;
      continue;
    }
    if (open == NULL) {
      open = append(all, room);
      *open = (anomaly_t){.start = series->times.ptr[i], .kind = text("spike")};
      open->metrics.len = 1;
      open->metrics.ptr = malloc(sizeof(plugin_string_t));
      *open->metrics.ptr = series->metric;
    }
    open->end = series->times.ptr[i];
    double score = 1 - FAR / far;
    if (score > open->score) open->score = score;
  }
}

// By their starts; what starts together stays in the order of the metrics. Merging takes no longer for a bad order.
static void sort(anomaly_t *from, anomaly_t *room, size_t len) {
  if (len < 2) return;
  size_t half = len / 2;
  sort(from, room, half);
  sort(from + half, room, len - half);
  for (size_t i = 0; i < len; i++) room[i] = from[i];
  for (size_t i = 0, left = 0, right = half; i < len; i++) {
    bool take_left = right == len || (left < half && room[left].start <= room[right].start);
    from[i] = take_left ? room[left++] : room[right++];
  }
}

bool exports_detect_detect(request_t *request, anomalies_t *ret, exports_detect_plugin_error_t *err) {
  (void)err;
  say(HOST_LEVEL_INFO, "looks at every series it is given");
  *ret = (anomalies_t){0};
  size_t room = 0;
  for (size_t i = 0; i < request->series.len; i++) look_at(&request->series.ptr[i], request->since, ret, &room);
  sort(ret->ptr, malloc(ret->len * sizeof(anomaly_t)), ret->len);
  if (ret->len > MOST_ANOMALIES) ret->len = MOST_ANOMALIES;
  return true;
}
