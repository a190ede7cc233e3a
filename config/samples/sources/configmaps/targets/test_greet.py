import unittest

import greet


class Greeting(unittest.TestCase):
    def test_names_whom_it_greets(self):
        self.assertEqual(greet.greeting("you"), "hello you")
