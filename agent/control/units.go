package control

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes as a person writes it: 1500, 20MB, 1.5 GiB, 10G. k,
// M, G and T are powers of 1000, Ki, Mi, Gi and Ti of 1024; the B may be left out, and
// case does not matter. A rate may end in /s. "none" and "0" are 0, which bounds of this
// program take for no bound.
func ParseSize(text string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	s = strings.TrimSuffix(s, "/s")
	if s == "none" {
		return 0, nil
	}
	digits := strings.TrimRight(s, "kmgtib ")
	scale := 1.0
	switch unit := strings.TrimSuffix(strings.TrimSpace(s[len(digits):]), "b"); unit {
	case "":
	case "k", "m", "g", "t":
		scale = math.Pow(1000, float64(1+strings.Index("kmgt", unit)))
	case "ki", "mi", "gi", "ti":
		scale = math.Pow(1024, float64(1+strings.Index("kmgt", unit[:1])))
	default:
		return 0, fmt.Errorf("%q is not a size such as 500MB, 1.5GiB or none", text)
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.") != "" || n*scale >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size such as 500MB, 1.5GiB or none", text)
	}
	return int64(math.Round(n * scale)), nil
}
