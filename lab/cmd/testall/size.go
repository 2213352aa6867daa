package main

import (
	"context"
	"fmt"
	"os"
)

// The program is meant for machines whose disk is a small card: the goal for it, stripped, as `make build` makes it.
const (
	programPath = "bin/nigh"
	programMost = 15_000_000 // bytes
)

// size builds the program and holds its size to the goal.
func size(ctx context.Context, all *tally) error {
	if _, err := output(ctx, "make", "--no-print-directory", "build"); err != nil {
		return err
	}
	file, err := os.Stat(programPath)
	if err != nil {
		return err
	}
	fmt.Fprintf(all.out, "%s has %d bytes, goal %d\n", programPath, file.Size(), programMost)
	all.count("size of the program", tooLarge(file.Size()))
	return nil
}

// tooLarge is the complaint about a program of so many bytes, empty when there is none.
func tooLarge(bytes int64) string {
	if bytes <= programMost {
		return ""
	}
	return fmt.Sprintf("%d bytes more than the goal; go tool nm -size -sort size shows what weighs", bytes-programMost)
}
