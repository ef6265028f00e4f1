// Package subnets writes down the traffic selectors of a test.
package subnets

import "github.com/ikegod/ikegod/pkg/ts"

// Of is a list of subnets, as leftsubnet= has them: "192.0.2.0/24", "192.0.2.0/24/tcp/80". It is for constants: what is wrong panics.
func Of(list ...string) ts.Set {
	var out ts.Set
	for _, s := range list {
		sel, err := ts.Parse(s)
		if err != nil {
			panic(err)
		}
		out = append(out, sel)
	}
	return out
}
