package suggest_test

import (
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/suggest"
)

func TestNearest(t *testing.T) {
	words := []string{"leftsubnet", "leftsourceip", "auto", "authby", "esn", "esp", "ike", "type"}
	for _, tt := range []struct{ word, want string }{
		{"lefsubnet", "leftsubnet"},
		{"leftsubent", "leftsubnet"},
		{"leftsubnett", "leftsubnet"},
		{"LEFTSUBNE", "leftsubnet"},
		{"auht", ""},
		{"autoo", "auto"},
		{"atuo", "auto"},
		{"eps", "esp"},
		{"xyz", ""},
		{"", ""},
		{"typ", "type"},
		{strings.Repeat("x", 1000), ""},
	} {
		if got := suggest.Nearest(tt.word, words); got != tt.want {
			t.Errorf("nearest to %q is %q, expected %q", tt.word, got, tt.want)
		}
	}
}
