"""The page's clone of the state repository; saves that come together go with one push."""
