package main

// verdict is what became of a goal.
type verdict string

const (
	met         verdict = "met"
	missed      verdict = "missed"
	notMeasured verdict = "not measured"
)

// row is a line of the yardstick: a goal of nigh's design, and the figure of this run.
type row struct {
	what, goal, figure string
	verdict            verdict
}

// judge makes a row: the goal is met when ok is true.
func judge(what, goal, figure string, ok bool) row {
	r := row{what, goal, figure, missed}
	if ok {
		r.verdict = met
	}
	return r
}
