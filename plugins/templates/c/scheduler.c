// Says who does what when: as early as can be, in the order of the tasks.
// `earliest` finds where a task fits one person; put what you know of your crew there. The host checks every plan.
#include <stdlib.h>

#include "forewright.h"

typedef exports_schedule_request_t request_t;
typedef exports_schedule_task_t task_t;
typedef exports_schedule_worker_t worker_t;
typedef exports_schedule_slot_t slot_t;
typedef exports_schedule_unplaced_t unplaced_t;
typedef plugin_list_string_t names_t;

// Where a task lies: when it is done, and by whom.
typedef struct {
  bool placed, agreed;
  double start;
  plugin_string_t worker;
} place_t;

typedef struct {
  const request_t *request;
  place_t *places;  // one for each task
} board_t;

static bool has(names_t names, plugin_string_t name) {
  for (size_t i = 0; i < names.len; i++)
    if (equal(names.ptr[i], name)) return true;
  return false;
}

static bool has_all(names_t names, names_t wanted) {
  for (size_t i = 0; i < wanted.len; i++)
    if (!has(names, wanted.ptr[i])) return false;
  return true;
}

static bool share_one(names_t a, names_t b) {
  for (size_t i = 0; i < a.len; i++)
    if (has(b, a.ptr[i])) return true;
  return false;
}

// The place of a task in the list; the length of the list if there is none of the name.
static size_t find(const request_t *request, plugin_string_t id) {
  size_t at = 0;
  while (at < request->tasks.len && !equal(request->tasks.ptr[at].id, id)) at++;
  return at;
}

static double end_of(const board_t *board, size_t at) {
  return board->places[at].start + board->request->tasks.ptr[at].duration;
}

// From when on a task could begin, if all that comes before it has its place.
static bool may_begin(const board_t *board, const task_t *task, double *from) {
  double now = host_now();
  *from = task->earliest > now ? task->earliest : now;
  for (size_t i = 0; i < task->after.len; i++) {
    size_t before = find(board->request, task->after.ptr[i]);
    if (before == board->request->tasks.len || !board->places[before].placed) return false;
    double end = end_of(board, before);
    if (end > *from) *from = end;
  }
  return true;
}

// When the last of what is in the way between two moments ends; negative infinity if nothing is.
static double in_the_way(const board_t *board, const task_t *task, const worker_t *worker, double start, double end) {
  double latest = -__builtin_inf();
  for (size_t i = 0; i < board->request->tasks.len; i++) {
    const place_t *place = &board->places[i];
    if (!place->placed || place->start >= end || end_of(board, i) <= start) continue;
    bool same_person = equal(place->worker, worker->id);
    if (!same_person && !share_one(task->occupies, board->request->tasks.ptr[i].occupies)) continue;
    if (end_of(board, i) > latest) latest = end_of(board, i);
  }
  return latest;
}

// The earliest moment from which one person can do a task in one go; positive infinity if there is none.
static double earliest(const board_t *board, const task_t *task, const worker_t *worker, double from) {
  for (size_t i = 0; i < worker->calendar.len; i++) {
    const exports_schedule_span_t *span = &worker->calendar.ptr[i];
    double start = span->start > from ? span->start : from;
    while (start + task->duration <= span->end) {
      double until = in_the_way(board, task, worker, start, start + task->duration);
      if (until == -__builtin_inf()) return start;
      start = until;
    }
  }
  return __builtin_inf();
}

static bool place(board_t *board, size_t at) {
  const task_t *task = &board->request->tasks.ptr[at];
  double from, best = __builtin_inf();
  if (!(task->duration > 0) || !may_begin(board, task, &from)) return false;
  for (size_t i = 0; i < board->request->workers.len; i++) {
    const worker_t *worker = &board->request->workers.ptr[i];
    if (!has_all(worker->skills, task->skills)) continue;
    double start = earliest(board, task, worker, from);
    if (start < best) {
      best = start;
      board->places[at] = (place_t){.placed = true, .start = start, .worker = worker->id};
    }
  }
  return best < __builtin_inf();
}

static const char *why_not(const board_t *board, const task_t *task) {
  double from;
  if (!(task->duration > 0)) return "it has no duration";
  if (!may_begin(board, task, &from)) return "what comes before it has no place";
  for (size_t i = 0; i < board->request->workers.len; i++)
    if (has_all(board->request->workers.ptr[i].skills, task->skills)) return "no time is left in any calendar";
  return "nobody has the skills";
}

bool exports_schedule_arrange(request_t *request, exports_schedule_plan_t *ret, exports_schedule_plugin_error_t *err) {
  (void)err;
  say(HOST_LEVEL_INFO, "arranges the tasks it is given");
  size_t count = request->tasks.len;
  board_t board = {.request = request, .places = calloc(count, sizeof(place_t))};
  for (size_t i = 0; i < request->agreed.len; i++) {
    const slot_t *slot = &request->agreed.ptr[i];
    size_t at = find(request, slot->task);
    if (at < count) board.places[at] = (place_t){.placed = true, .agreed = true, .start = slot->start, .worker = slot->worker};
  }
  // What waits for another task may have its turn in the next round.
  for (bool again = true; again;) {
    again = false;
    for (size_t at = 0; at < count; at++)
      if (!board.places[at].placed && place(&board, at)) again = true;
  }
  *ret = (exports_schedule_plan_t){0};
  ret->slots.ptr = malloc(count * sizeof(slot_t));
  ret->unplaced.ptr = malloc(count * sizeof(unplaced_t));
  for (size_t at = 0; at < count; at++) {
    const task_t *task = &request->tasks.ptr[at];
    const place_t *own = &board.places[at];
    if (!own->placed)
      ret->unplaced.ptr[ret->unplaced.len++] = (unplaced_t){.task = task->id, .reason = text(why_not(&board, task))};
    else if (!own->agreed)
      ret->slots.ptr[ret->slots.len++] = (slot_t){.task = task->id, .worker = own->worker, .start = own->start};
  }
  return true;
}
