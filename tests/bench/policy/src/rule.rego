package fleet

decision := {"action": "monitor", "reason": "it was seen to a short while ago"} if {
    input.cooling_down
} else := {"action": "monitor", "reason": concat("", ["it is ", input.state])} if {
    input.state != "in_service"
} else := {"action": "monitor", "reason": "it is unlikely to fail"} if {
    input.fps["7d"] < 0.05
    input.anomaly < 0.8
} else := {"action": "monitor", "reason": "little would be lost"} if {
    input.critical_dependents == 0
    input.fps["7d"] * input.outage_cost_per_hour < 50.0
} else := {"action": "shift_bandwidth", "reason": "others can carry its load"} if {
    input.utilisation > 0.7
    others_can_carry_it
} else := {"action": "start", "workflow": "replace_part", "reason": concat("", ["it needs a new ", input.part])}

others_can_carry_it if input.spare_capacity > 0.2
others_can_carry_it if input.stand_in_possible
