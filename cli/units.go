package cli

import (
	"fmt"
	"math"
)

// size returns n bytes for people, in powers of 1000 as file managers show them.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB"} {
		v /= 1000
		if v < 999.95 || unit == "TB" {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
	}
	panic("unreachable: TB ends the loop")
}

// span returns seconds for people, with at most two units.
func span(seconds float64) string {
	if math.IsNaN(seconds) || seconds < 0 || seconds > 1e9 {
		return "-"
	}
	s := int64(math.Round(seconds))
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 600:
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	case s < 3600:
		return fmt.Sprintf("%d min", s/60)
	case s < 86400:
		return fmt.Sprintf("%d h %02d min", s/3600, s/60%60)
	default:
		return fmt.Sprintf("%d d", s/86400)
	}
}

// took returns how long something lasted, short times with a tenth.
func took(seconds float64) string {
	if seconds >= 0 && seconds < 9.95 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return span(seconds)
}

// ago returns how long ago something was seen.
func ago(seconds float64) string {
	switch {
	case seconds < 0:
		return "never"
	case seconds < 5:
		return "now"
	default:
		return span(seconds)
	}
}

// percent returns how much of total is done, rounded down so that 100 means all.
func percent(done, total int64) string {
	switch {
	case done >= total:
		return "100 %"
	case done <= 0:
		return "0 %"
	default:
		return fmt.Sprintf("%d %%", int64(float64(done)/float64(total)*100))
	}
}

// count returns n and the word in the right number.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
