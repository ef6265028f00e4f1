package ident

// AttributeNames is the table of attribute types: name and number.
func AttributeNames() (list [][2]string) {
	for _, a := range attributeNames {
		list = append(list, [2]string{a.name, a.oid})
	}
	return list
}
