;; A predictor that gives every part the same odds, whatever was measured of it.
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))
  (func $room (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (loop $more
        (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $more)))
    (local.get $at))
  (func (export "forewright:plugin/predict@1.0.0#predict")
    (param $histories i32) (param $count i32) (param $horizons i32) (param $asked i32)
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (local $odds i32) (local $answer i32) (local $n i32) (local $at i32)
    ;; One probability for each horizon, and all parts have the same.
    (local.set $odds (call $room (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $asked) (i32.const 8))))
    (block $told
      (loop $next
        (br_if $told (i32.ge_u (local.get $n) (local.get $asked)))
        (f64.store (i32.add (local.get $odds) (i32.mul (local.get $n) (i32.const 8))) (f64.const 0.25))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
    (local.set $answer (call $room (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 28))))
    (local.set $n (i32.const 0))
    (block $judged
      (loop $next
        (br_if $judged (i32.ge_u (local.get $n) (local.get $count)))
        (local.set $at (i32.add (local.get $answer) (i32.mul (local.get $n) (i32.const 28))))
        (memory.fill (local.get $at) (i32.const 0) (i32.const 28))
        (i32.store offset=4 (local.get $at) (local.get $odds))
        (i32.store offset=8 (local.get $at) (local.get $asked))
        (i32.store offset=12 (local.get $at) (i32.const 8))
        (i32.store offset=20 (local.get $at) (i32.const 8))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br $next)))
    (i32.store8 (i32.const 16) (i32.const 0))
    (i32.store (i32.const 24) (local.get $answer))
    (i32.store (i32.const 28) (local.get $count))
    (i32.const 16)))
