// Package suggest finds the known word that was probably meant by a mistyped one.
package suggest

import "strings"

// Nearest finds the candidate that was probably meant by word: the one with the fewest typing mistakes, if they are few for its length.
// Failing that, the first that begins with word. The first of several equal ones wins. Empty: none is near.
func Nearest(word string, candidates []string) string {
	word = strings.ToLower(word)
	if len(word) > 64 {
		return ""
	}
	best, least := "", 1+min(3, (len(word)+1)/3)
	for _, c := range candidates {
		if d := mistakes(word, strings.ToLower(c), least); d < least {
			best, least = c, d
		}
	}
	if best == "" && len(word) >= 4 {
		for _, c := range candidates {
			if strings.HasPrefix(strings.ToLower(c), word) {
				return c
			}
		}
	}
	return best
}

// mistakes is the number of typing mistakes between two words (insertions, deletions, substitutions, and swaps of neighbours: the optimal string
// alignment distance), or limit when it is not smaller than that.
func mistakes(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

// DidYouMean makes a question of Nearest, or nothing.
func DidYouMean(word string, candidates []string) string {
	if n := Nearest(word, candidates); n != "" {
		return "did you mean " + n + "?"
	}
	return ""
}
